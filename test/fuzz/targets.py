"""What is fuzzed. A target is a function of octets that raises where a property does not hold."""

import asyncio
import functools
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import atheris
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

with atheris.instrument_imports(include=["chatmaild", "chatmail_schema"]):
    import chatmail_schema
    from chatmaild.dovecot.dict_server import Connection, unescape
    from chatmaild.filter import rules
    from chatmaild.http import server as http_server
    from chatmaild.message import dkim, mime, openpgp
    from chatmaild.message.address import encode, parse_path
    from chatmaild.smtp.data import InvalidData

import dkim as dkimpy

from test.support import hostile, messages, readers
from test.support.signing import ForeignDomain
from test.unit.chatmaild.dovecot.test_dict_properties import Memory
from test.unit.chatmaild.message.dkim.conftest import Records, private, public

SCHEMA = yaml.safe_load((Path(__file__).parents[2] / "chatmail/defaults.yaml").read_text())
ENCRYPTED_TYPES = ["multipart/encrypted", "application/pgp-encrypted", "application/octet-stream"]
REFUSED = (mime.MalformedMessage, InvalidData, rules.Refused)


@dataclass(frozen=True)
class Target:
    """One thing that reads what strangers send."""

    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def _source(data: bytes) -> random.Random:
    """Chance that the fuzzer steers, for what hardly comes about octet by octet."""
    return _Steered(data)


class _Steered(random.Random):
    def __new__(cls, data: bytes) -> "_Steered":
        return super().__new__(cls)

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data = atheris.FuzzedDataProvider(data)

    def randint(self, least: int, most: int) -> int:
        return self._data.ConsumeIntInRange(least, most)

    def choice(self, options):
        return options[self.randint(0, len(options) - 1)]


def check_author(value: bytes) -> None:
    """Nobody reads another author in a From field that the filter takes."""
    message = readers.message_from(value, "text")
    try:
        author = encode(rules.from_address(readers.received(message)))
    except REFUSED:
        return
    if re.search(rb"\r\n(?![ \t])", value):
        return  # more than this field
    assert _opendkim().authors(value) == {author}, value
    assert readers.python_authors(message) <= {author}, value


@functools.cache
def _opendkim() -> readers.OpenDkim:
    return readers.OpenDkim()


def check_message(message: bytes) -> None:
    """What the filter takes for encrypted, in either direction, is two parts to others too, and sending is stricter."""
    try:
        entity = readers.received(message)
    except REFUSED:
        return
    verdicts = []
    for outgoing in (True, False):
        try:
            openpgp.require_encrypted_message(entity, outgoing=outgoing)
            verdicts.append(True)
        except openpgp.NotEncrypted as error:
            verdicts.append(False)
            assert str(error).isprintable(), error
        rules.is_securejoin_request(entity)
    assert verdicts in ([True, True], [False, True], [False, False])
    if verdicts[1]:
        assert readers.python_structures(message) == [ENCRYPTED_TYPES] * 2, message


def check_armor(text: bytes) -> None:
    """Armor is judged alike however it is cut for decoding, and what stands before and after it."""
    for outgoing in (True, False):
        verdict = openpgp.is_encrypted_armor(text, 0, len(text), outgoing=outgoing)
        padded = b"=\r\n" + text + b"=\r\n"
        assert openpgp.is_encrypted_armor(padded, 3, 3 + len(text), outgoing=outgoing) is verdict
    answers = {
        openpgp.is_encrypted_payload(text[at : at + size] for at in range(0, len(text), size)) for size in (1, 5, 999)
    }
    assert len(answers) == 1, text


def check_path(argument: bytes) -> None:
    """An address is printed as it was read, and is read again as itself."""
    path = parse_path(argument.decode("utf-8", "surrogateescape"))
    if path:
        assert not any(character < " " or character == "\x7f" for character in path)
        assert parse_path(f"<{path}>") == path


def check_dict(data: bytes) -> None:
    """Each request has one answer, and none of them ends the connection by a fault."""
    connection = Connection(Memory())
    for line in data.decode(errors="surrogateescape").split("\n"):
        unescape(line)
        if line:
            answer = asyncio.run(connection.answer(line))
            assert answer == "" or answer.endswith("\n")


def check_http(data: bytes) -> None:
    """Whatever comes is answered by responses that are whole, and what is delivered has a length that was told."""

    async def serve() -> bytes:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        writer = _Writer()
        bodies = []

        async def deliver(request: http_server.Request) -> http_server.Response:
            bodies.append(len(request.body))
            return http_server.Response(http_server.HTTPStatus.OK, "250 OK")

        await http_server.Server(deliver, 10_000)._connected(reader, writer)
        assert all(size <= 10_000 for size in bodies)
        assert writer.sent.count(b"250 OK") <= len(bodies)
        return bytes(writer.sent)

    sent = asyncio.run(serve())
    assert sent == b"" or sent.startswith(b"HTTP/1.1 ")


class _Writer:
    """As much of a StreamWriter as the HTTP server uses."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.write = self.sent.extend

    async def drain(self) -> None:
        pass

    def get_extra_info(self, name: str, default=None):
        return default

    def write_eof(self) -> None:
        pass

    close = write_eof


def check_settings(data: bytes) -> None:
    """Whatever a pillar is, problems are sentences and settings come out; without problems they are what it says."""
    try:
        pillar = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError, AttributeError):
        return
    found = chatmail_schema.problems(SCHEMA, pillar)
    settings = chatmail_schema.effective(SCHEMA, pillar)
    assert all(isinstance(problem, str) for problem in found)
    assert set(SCHEMA) <= set(settings)
    chatmail_schema.ports(settings)


@functools.cache
def _signing() -> tuple[bytes, Records]:
    """A signed message, and the DNS where its key is."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    message = messages.encrypted("someone@foreign.test", "alice@_one.test", payload=messages.encrypted_payload(9))
    records = {"mail._domainkey.foreign.test": [b"v=DKIM1; k=rsa; p=" + public(key)]}
    return ForeignDomain("foreign.test", private(key)).signed(message), Records(records)


def check_signature(data: bytes) -> None:
    """What the verifier takes, dkimpy takes too, by the same keys and for the same domain."""
    signed, records = _signing()
    message = hostile.nearly_signed(_source(data), signed)
    try:
        entity = readers.received(message)
        domain = rules.from_address(entity).rpartition("@")[2]
    except REFUSED:
        return

    async def run(function, *arguments):
        return function(*arguments)

    try:
        asyncio.run(dkim.verify(entity, domain, records, run))
    except (dkim.NotVerified, dkim.TryAgain):
        return
    assert domain.lower() == "foreign.test", message
    assert any(_dkimpy_verifies(message, index, records) for index in range(5)), message


def _dkimpy_verifies(message: bytes, index: int, records: Records) -> bool:
    def txt(name: bytes, timeout: float = 0) -> bytes | None:
        found = records.records.get(name.decode("latin-1").rstrip("."), [])
        return found[0] if found else None

    try:
        return dkimpy.DKIM(message).verify(index, dnsfunc=txt)
    except (dkimpy.DKIMException, ValueError):
        return False


def targets() -> dict[str, Target]:
    """All targets by name."""
    pieces = tuple(bytes(random.Random(seed).randbytes(64)) for seed in range(40))
    samples = tuple(client("a@b.test", "c@d.test") for client in messages.CLIENTS.values())
    return {
        "author": Target(check_author, tuple(hostile.from_value(random.Random(seed)) for seed in range(200))),
        "author-pieces": Target(lambda data: check_author(hostile.from_value(_source(data))), pieces),
        "mime": Target(check_message, (*samples, messages.securejoin_single("a@b.test", "c@d.test"), hostile.SAMPLE)),
        "mime-pieces": Target(lambda data: check_message(hostile.nearly_encrypted(_source(data))), pieces),
        "armor": Target(check_armor, (messages.armor(messages.encrypted_payload(50)), messages.encrypted_payload(9))),
        "paths": Target(
            check_path, (b"<a@b.test> SIZE=1", b"<>", b'<"a b"@c>', b"<@a.test:b@[192.0.2.1]>", b"<a+b@c>")
        ),
        "dict": Target(check_dict, (b"H2\t0\nLpriv/a\tu\nB1\tu\nS1\tk\tv\nC1\nI1\t0\tp\tu", b"U1\tk\nA1\tk\t1\nD1")),
        "http": Target(
            check_http,
            (
                b"POST /mxdeliv HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nX-Mail-To: a@b\r\n\r\nbody",
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\nGET / HTTP/1.1",
            ),
        ),
        "signature-pieces": Target(check_signature, pieces),
        "settings": Target(
            check_settings, (b"mail_domain: a.test\nmax_message_size: 1", b"{mail_domain: [1], x: 2e9}")
        ),
    }
