"""Signed mail that somebody has tampered with: its signatures, its author, its other fields and its body."""

import random
import re
from collections.abc import Callable

from test.support import messages
from test.support.signing import ForeignDomain

VICTIM = "ceo@victim.test"
RECIPIENT = "alice@chat.example.org"
_SIGNATURE = re.compile(rb"(?m)^DKIM-Signature:(?:[^\r]|\r\n[ \t])*+\r\n")
_TAGS = ["v=1", "d=victim.test", "d=foreign.test", "s=mail", "h=from", "l=0", "l=5", "t=1", "x=1", "x=99999999999"]
_TAGS += ["bh=", "b=AAAA", "i=ceo@victim.test", "a=rsa-sha1", "c=simple", "c=relaxed/relaxed", "z=From:x", "junk", ""]
_AUTHOR_PIECES = ["someone", "@", "<", ">", '"', "(", ")", "\t", " ", ",", ";", ":", "\\", '\\"', '"x"', "(x)", "\r\n "]
_AUTHOR_PIECES += ["<someone@foreign.test>", f"<{VICTIM}>", VICTIM, "<@victim.test:", "Group:", "=?utf-8?q?x?="]
_OCTETS = [b"", b" ", b"\t", b";", b"=", b":", b"\r\n ", b"a", b"Z", b"9", b".", b"@", b"/", b"\x0b", b"\xe4"]


def tampered(rng: random.Random, foreign: ForeignDomain) -> bytes:
    """A message of ``foreign``, really signed, then changed in a way that ``rng`` chooses; some changes do no harm."""
    author = rng.choice([_author, _plain_author, _plain_author])(rng, f"someone@{foreign.name}")
    message = messages.encrypted(f"someone@{foreign.name}", RECIPIENT, payload=messages.encrypted_payload(40))
    message = message.replace(f"From: <someone@{foreign.name}>".encode(), b"From: " + author)
    forms = ["simple", "relaxed"]
    for _ in range(rng.randint(0, 2)):
        message = foreign.signed(
            message, header=rng.choice(forms), body=rng.choice(forms), length=rng.random() < 0.2, domain=_domain(rng)
        )
    for _ in range(rng.randint(0, 2)):
        message = rng.choice(_CHANGES)(rng, message)
    return message


def _domain(rng: random.Random) -> str | None:
    return rng.choice([None, None, None, "victim.test", "sub.foreign.test", "FOREIGN.test"])


def _plain_author(rng: random.Random, address: str) -> bytes:
    return rng.choice([address, f"<{address}>", f"Some One <{address}>", f'"One, Some" <{address}>']).encode()


def _author(rng: random.Random, address: str) -> bytes:
    """A From field in which readers may find different authors."""
    before, after = ("".join(rng.choices(_AUTHOR_PIECES, k=rng.randint(0, most))) for most in (4, 2))
    return f"{before}<{address}>{after}".encode()


def _in_signature(change: Callable[[random.Random, bytes], bytes]) -> Callable[[random.Random, bytes], bytes]:
    """A change of one signature's field body, where there is a signature."""

    def changed(rng: random.Random, message: bytes) -> bytes:
        found = list(_SIGNATURE.finditer(message.partition(b"\r\n\r\n")[0] + b"\r\n"))
        if not found:
            return message
        one = rng.choice(found)
        start, end = one.start() + len("DKIM-Signature:"), one.end() - 2
        return message[:start] + change(rng, message[start:end]) + message[end:]

    return changed


def _one_octet(rng: random.Random, value: bytes) -> bytes:
    at = rng.randrange(len(value))
    octet = rng.choice(
        [b" ", b"\t", b";", b"=", b":", b"\r\n ", b"a", b"Z", b"9", b".", b"@", b"/", b"\x0b", b"\xe4", b""]
    )
    # The second octet of a line break, and what continues a line, stay.
    return value if value[at : at + 1] in b"\r\n \t" else value[:at] + octet + value[at + rng.randint(0, 1) :]


def _another_tag(rng: random.Random, value: bytes) -> bytes:
    tags = value.split(b";")
    tags.insert(rng.randint(0, len(tags)), rng.choice(_TAGS).encode())
    return b";".join(tags)


def _without_a_tag(rng: random.Random, value: bytes) -> bytes:
    tags = value.split(b";")
    del tags[rng.randrange(len(tags))]
    return b";".join(tags)


def _shuffled_tags(rng: random.Random, value: bytes) -> bytes:
    tags = value.split(b";")
    rng.shuffle(tags)
    return b";".join(tags)


def _further_field(rng: random.Random, message: bytes) -> bytes:
    tags = "; ".join(rng.choice(_TAGS) for _ in range(rng.randint(0, 9)))
    fields = [f"DKIM-Signature: {tags}", f"From: {VICTIM}", "Subject: other", "X-New: 1", "Reply-To: x@victim.test"]
    field = rng.choice(fields).encode() + b"\r\n"
    if rng.random() < 0.5:
        return field + message
    head, _, body = message.partition(b"\r\n\r\n")
    return head + b"\r\n" + field + b"\r\n" + body


def _other_body(rng: random.Random, message: bytes) -> bytes:
    return rng.choice([message + b"more\r\n", message + b"\r\n", message.replace(b"Version: 1", b"Version: 1 ")])


def _other_fields(rng: random.Random, message: bytes) -> bytes:
    head, blank, body = message.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    at = rng.randrange(len(lines))
    lines[at] = rng.choice([lines[at].replace(b" ", b"  ", 1), lines[at].swapcase(), lines[at] + b" "])
    return b"\r\n".join(lines) + blank + body


_CHANGES = [
    *map(_in_signature, (_one_octet, _another_tag, _without_a_tag, _shuffled_tags)),
    _further_field,
    _other_body,
    _other_fields,
]
