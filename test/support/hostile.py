"""Hostile fields and messages, made of pieces by chance, for tests that compare readers and for `make fuzz`.

`Source` is Python's random.Random, or a fuzzer's choice.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from test.support import messages


class Source(Protocol):
    """Where chance comes from."""

    def choice(self, options: Sequence) -> Any: ...

    def randint(self, least: int, most: int) -> int: ...


VICTIM, ATTACKER = b"victim@_one.test", b"attacker@_one.test"

# What a From field is made of, what only looks like it, and what readers disagree about.
FROM_PIECES = [
    *(b"<%b>" % address for address in (VICTIM, ATTACKER)),
    *(b'"%b"' % text for text in (b"", b"Al Ice", b"<victim@_one.test>, ", b'a\\"b', b"(", b")", b"\t", b"\\\xc3\xa4")),
    *(VICTIM, ATTACKER, b"a@[192.0.2.1]", b'"a b"@_one.test', b"@_one.test:a@b.test"),
    *(b"=?utf-8?q?Al?=", b"=?utf-8?q?=22=2C_victim=40_one=2Etest=2C?=", b"=?utf-8?b?PHZpY3RpbUBfb25lLnRlc3Q+LA==?="),
    *(
        b"=?utf-8?q?",
        b"?=",
        b"=?",
        b"(Al)",
        b"(a (b) c)",
        b"(=?utf-8?q?)?=",
        b"Al",
        b"Ice.",
        b"Al Ice:",
        b"J\xc3\xb6rg",
    ),
    *(
        b" ",
        b"\t",
        b"\r\n ",
        b"\r\n\t",
        b"\r\n  \r\n ",
        b"\xc2\xa0",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\x0b",
        b"\x0c",
        b"\x1c",
    ),
    *(b",", b";", b":", b"<", b">", b"(", b")", b'"', b"\\", b"\\\\", b'\\"', b"@", b".", b"[", b"]", b"\x7f", b"\xff"),
]
# Fields as people send them.
_GOOD = [
    b" Al Ice <attacker@_one.test>",
    b' "Al, Ice" <attacker@_one.test>',
    b" =?utf-8?q?J=C3=B6rg?= =?utf-8?q?_x?=\r\n <attacker@_one.test>",
    b" attacker@_one.test (Al)",
    b" (Al) <attacker@_one.test>",
    b" Al: attacker@_one.test;",
    b' J\xc3\xb6rg "x" Y. <attacker@_one.test>',
]


def from_value(source: Source) -> bytes:
    """What follows the colon of a From field: pieces, or a field that people send with pieces put in or over it."""
    if source.randint(0, 3) == 0:
        return b"".join(source.choice(FROM_PIECES) for _ in range(source.randint(1, 9)))
    value = source.choice(_GOOD)
    for _ in range(source.randint(0, 3)):
        at = source.randint(0, len(value))
        value = value[:at] + source.choice(FROM_PIECES) + value[at + source.randint(0, 2) :]
    return value


# What a path in MAIL and RCPT (RFC 5321 section 4.1.2) is made of, and what only looks like it.
PATH_PIECES = [
    *("<", ">", "<>", "@", ",", ".", ";", ":", "\\", "%", "!", "+x", " ", "\t", '"', "(", ")", "(x)", "\xa0"),
    *(
        "USER",
        "USER@DOMAIN",
        "<USER@DOMAIN>",
        '"USER"',
        "@DOMAIN",
        "%DOMAIN",
        "DOMAIN!",
        "@a:",
        "@a,@b:",
        "@[127.0.0.1]",
    ),
    *("victim@DOMAIN", "<victim@DOMAIN>", '"victim@DOMAIN"', "@victim.test", "(victim@DOMAIN", "\\@"),
]
_GOOD_PATHS = ["<USER@DOMAIN>", "USER@DOMAIN", "<@a.test:USER@DOMAIN>", '<"USER"@DOMAIN>', "<USER@DOMAIN.>"]


def path(source: Source, address: str) -> str:
    """What follows the colon of a command: a path to `address` with pieces put in or over it, or pieces alone."""
    text = source.choice([*_GOOD_PATHS, "".join(source.choice(PATH_PIECES) for _ in range(source.randint(1, 5)))])
    for _ in range(source.randint(0, 2)):
        at = source.randint(0, len(text))
        text = text[:at] + source.choice(PATH_PIECES) + text[at + source.randint(0, 2) :]
    user, _, domain = address.partition("@")
    return text.replace("USER", user).replace("DOMAIN", domain)


CLEARTEXT = b"cleartext"  # no octets that anybody sees may hold it

# What stands around and in a Content-Type and the lines of a multipart.
MIME_PIECES = [
    *(b"boundary=evil", b'boundary="evil"', b";boundary=evil;", b"boundary*=us-ascii''evil", b"boundary*0=evil"),
    *(
        b"boundary*0*=us-ascii''evil",
        b"BOUNDARY =evil",
        b"boundary\xa0=evil",
        b"boundary\x0b=evil",
        b"boundary\xc2\x85=evil",
    ),
    *(
        b"=?utf-8?q?=3B_boundary=3Devil=3B?=",
        b"=?utf-8?q?multipart/mixed?=",
        b"(boundary=evil)",
        b'x="; boundary=evil; y="',
    ),
    *(b'x="\\"; boundary=evil; y="', b"multipart/mixed", b"text/plain", b"multipart/mixed;", b"text/html;"),
    *(
        b"\r\nContent-Type: text/plain",
        b"\r\nContent-Type: multipart/mixed; boundary=evil",
        b"\r\n Content-Type: text/plain",
    ),
    *(
        b"\r\nContent-Transfer-Encoding: base64",
        b"\r\nContent-Transfer-Encoding: quoted-printable",
        b"\r\nX: y",
        b"\r\n \r\n",
    ),
    *(
        b"\r\n--evil\r\nContent-Type: text/plain\r\n\r\ncleartext\r\n--evil--\r\n",
        b"\r\n--evil\r\n",
        b"\r\n--evil--\r\n",
    ),
    *(
        b"\r\n--sample-boundary\r\nContent-Type: text/plain\r\n\r\ncleartext\r\n",
        b"--sample-boundary",
        b"--",
        b"sample-boundary",
    ),
    *(
        b"\r\n",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b"\x0b",
        b"\x0c",
        b"\x1c",
        b"\xa0",
        b"\xc2\xa0",
        b"\xff",
        b";",
        b"=",
        b'"',
        b"'",
    ),
    *(b"(", b")", b"\\", b"\\\\", b"*", b"/", b",", b":", b"cleartext"),
]

SAMPLE = messages.encrypted(ATTACKER.decode(), VICTIM.decode(), payload=bytes.fromhex("c103030102d2050101020304"))


# An incoming message may have any preamble; who reads another boundary sees it.
_WITH_CLEARTEXT = messages.encrypted(
    ATTACKER.decode(),
    VICTIM.decode(),
    payload=bytes.fromhex("c103030102d2050101020304"),
    preamble="--evil\r\nContent-Type: text/plain\r\n\r\ncleartext\r\n--evil--\r\n",
)

_STRUCTURE = [b"Content-Type: ", b"multipart/encrypted", b"boundary=", b"sample-boundary", b"\r\n\r\n"]


def nearly_encrypted(source: Source) -> bytes:
    """A PGP/MIME message with pieces put in or over it, most of them where its structure is told."""
    message = source.choice([SAMPLE, _WITH_CLEARTEXT])
    for _ in range(source.randint(1, 3)):
        near = source.choice(_STRUCTURE)
        at = message.find(near) + source.randint(0, len(near) + 30)
        if source.randint(0, 1):
            at = source.randint(0, len(message))
        message = message[:at] + source.choice(MIME_PIECES) + message[at + source.randint(0, 3) :]
    return message


# What a signature is made of, and what changes a message that was signed.
SIGNATURE_PIECES = [
    *(
        b"l=0;",
        b"l=1;",
        b"d=_one.test;",
        b"d=foreign.test;",
        b"i=@_one.test;",
        b"s=mail;",
        b"x=1;",
        b"t=9999999999;",
        b"h=;",
    ),
    *(
        b"h=from;",
        b"h=to:subject;",
        b"c=simple/simple;",
        b"c=relaxed/relaxed;",
        b"a=rsa-sha1;",
        b"v=2;",
        b"b=;",
        b"bh=;",
    ),
    *(
        b"DKIM-Signature: junk\r\n",
        b"DKIM-Signature:\r\n",
        b"From: victim@_one.test\r\n",
        b"Subject: x\r\n",
        b"cleartext\r\n",
    ),
    *(b"\r\n ", b" ", b"\t", b"\r\n", b";", b"=", b":", b"\xff", b"A", b"a"),
]


def nearly_signed(source: Source, signed: bytes) -> bytes:
    """A signed message with pieces put in or over it, most of them in its first field."""
    message = signed
    for _ in range(source.randint(0, 3)):
        at = source.randint(0, source.choice([0, max(0, message.find(b"\r\nFrom: ")), len(message)]))
        message = message[:at] + source.choice(SIGNATURE_PIECES) + message[at + source.randint(0, 2) :]
    return message
