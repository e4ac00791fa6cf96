"""One valid signature of one domain over a whole message (RFC 6376 section 6.1)."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable

from ...text_records import LookupFailed, TextRecords
from ..address import same
from ..mime import Entity
from . import key, signature
from .canonicalization import BodyHash, hash_body, header_field
from .signature import Signature
from .tags import Invalid

SIGNATURES_MAX = 20  # of the author's domain that are looked at; each may name another key to ask for
QUERIES_MAX = 5  # at a time for one message
RECORDS_MAX = 20  # of one name that are tried: what several mean is not defined (section 3.6.2.2)
DNS_S = 45  # seconds for all keys; half of what the filter has for a message
CLOCK_DRIFT_S = 300  # by which a signer's clock may be ahead of ours

_FIELD_BREAK = re.compile(rb"\r\n(?![ \t])")

# Calls a function that takes long for a large message.
Run = Callable[..., Awaitable]
# What the DNS says about a name: its TXT records, or why it says nothing.
Answer = list[bytes] | LookupFailed


class NotVerified(Exception):
    """The domain has not signed the message; the text says why."""


class TryAgain(Exception):
    """Whether it has cannot be said now; the text says why."""


async def verify(message: Entity, domain: str, records: TextRecords, run: Run, *, whole: bool = True) -> None:
    """Return if `domain` has signed the whole of `message`.

    Only signatures whose d= is `domain` count: strict alignment (RFC 7489 section 3.1.1), without asking for anybody's
    policy. The others cost no query.

    :param domain: the author's; the case of its letters does not matter.
    :param records: where keys are looked up.
    :param run: calls a function in a way that is fit for the size of the message.
    :param whole: False where it is enough that `domain` once signed the header: the body may be gone, the time over.
    :raises NotVerified: no signature counts.
    :raises TryAgain: one that may count cannot be judged now.
    """
    fields = _FIELD_BREAK.split(bytes(memoryview(message.message)[: message.start]).rstrip(b"\r\n"))
    found = [field for field in fields if _name(field) == signature.NAME]
    if not found:
        raise NotVerified("No DKIM signature found")
    candidates, reasons = _candidates(found, domain)
    answers = await _look_up({one.key_name for one in candidates}, records)
    await run(_check, candidates, answers, _Message(message, fields, whole), reasons)


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].lower()


def _candidates(fields: Iterable[bytes], domain: str) -> tuple[list[Signature], list[str]]:
    """The signatures of `domain`, and why others do not count."""
    candidates, reasons = [], []
    for field in fields:
        try:
            one = signature.parse(field)
        except Invalid as reason:
            reasons.append(str(reason))
            continue
        if same(one.domain, domain):
            candidates.append(one)
        else:
            reasons.append("d= is not the domain of From")
    return candidates[:SIGNATURES_MAX], reasons


async def _look_up(names: set[str], records: TextRecords) -> dict[str, Answer]:
    """Ask for the TXT records of all `names`."""
    places = asyncio.Semaphore(QUERIES_MAX)
    deadline = asyncio.get_running_loop().time() + DNS_S

    async def look_up(name: str) -> Answer:
        try:
            async with asyncio.timeout_at(deadline), places:
                return await records.look_up(name)
        except LookupFailed as failure:
            return failure
        except TimeoutError:
            return LookupFailed(f"TXT of {name}: no answer in {DNS_S} s")

    return dict(zip(names, await asyncio.gather(*map(look_up, names)), strict=True))


class _Message:
    """What is signed; a body is hashed once for each canonicalization."""

    def __init__(self, entity: Entity, fields: list[bytes], whole: bool) -> None:
        self._entity = entity
        self._fields = fields
        self.whole = whole
        self._body_hashes: dict[str, BodyHash] = {}

    def body_hash(self, canonicalization: str) -> BodyHash:
        """The hash of the whole body."""
        if canonicalization not in self._body_hashes:
            entity = self._entity
            self._body_hashes[canonicalization] = hash_body(entity.message, entity.start, entity.end, canonicalization)
        return self._body_hashes[canonicalization]

    def signed_octets(self, one: Signature) -> bytes:
        """What a signature signs of the header (sections 3.7 and 5.4.2), itself included."""
        by_name: dict[bytes, list[bytes]] = {}
        for field in self._fields:
            if field is not one.field:
                by_name.setdefault(_name(field), []).append(field)
        # Of several fields of a name the last one counts first; one that is not there says that there is none.
        chosen = [by_name[name].pop() for name in one.signed_fields if by_name.get(name)]
        return b"\r\n".join(
            header_field(field, one.header_canonicalization) for field in (*chosen, one.unsigned_field())
        )


def _check(candidates: list[Signature], answers: dict[str, Answer], message: _Message, reasons: list[str]) -> None:
    """Return if one of the signatures is valid.

    :raises NotVerified, TryAgain: as `verify` does.
    """
    later = None
    for one in candidates:
        try:
            _check_signature(one, answers[one.key_name], message)
        except Invalid as reason:
            reasons.append(str(reason))
        except TryAgain as reason:
            later = reason
        else:
            return
    if later:
        raise later
    raise NotVerified(f"No valid DKIM signature found: {', '.join(dict.fromkeys(reasons))}")


def _check_signature(one: Signature, answer: Answer, message: _Message) -> None:
    now = time.time()
    if message.whole:
        if one.expires is not None and one.expires < now:
            raise Invalid("it is past x=")
        body = message.body_hash(one.body_canonicalization)
        # Section 8.2: to a body that is signed in part anybody can add text.
        if one.length not in (None, body.length):
            raise Invalid("l= is not the length of the body")
        if one.body_hash != body.digest:
            raise Invalid("the body is not the one that was signed")
    if isinstance(answer, LookupFailed):
        # Section 6.1.2: a key that cannot be had now is a reason to try again.
        raise TryAgain("DKIM key could not be fetched, try again later") from answer
    _check_keys(one, answer, message.signed_octets(one))
    if one.signed_at is not None and one.signed_at > now + CLOCK_DRIFT_S:
        # Either clock may be wrong, and ours may soon be right.
        raise TryAgain("DKIM signature is of the future, check your clock or try again later")


def _check_keys(one: Signature, records: list[bytes], signed: bytes) -> None:
    """Return if one of the records of a name is a key that made the signature.

    :raises Invalid: none is.
    """
    failure = Invalid("there is no key under its name")
    for record in records[:RECORDS_MAX]:
        try:
            found = key.parse(record)
            if found.type != one.algorithm.partition("-")[0]:
                raise Invalid("the key is of another type")
            if found.strict and one.identity_domain != one.domain:
                raise Invalid("i= is not d=, as the key wants")
            if not found.verifies(one.value, signed):
                raise Invalid("the header is not the one that was signed, or the key is another")
        except Invalid as reason:
            failure = reason
        else:
            return
    raise failure
