"""The field DKIM-Signature."""

import pytest

from chatmaild.message.dkim import signature
from chatmaild.message.dkim.tags import Invalid

HASH = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
TAGS = {"v": "1", "a": "rsa-sha256", "d": "foreign.test", "s": "mail", "h": "from:to", "bh": HASH, "b": "AAAA"}


def field(**changes: str | None) -> bytes:
    """A signature with some tags set, or left out if None."""
    found = TAGS | changes
    return "; ".join(
        ["DKIM-Signature: v=1", *(f"{k}={v}" for k, v in found.items() if k != "v" and v is not None)]
    ).encode()


def test_a_signature_is_read():
    one = signature.parse(
        field(d="Foreign.TEST", s="A._b", h=" From : TO:to", c="relaxed/simple", i="x@A.foreign.test")
    )
    assert (one.domain, one.selector, one.identity_domain) == ("foreign.test", "a._b", "a.foreign.test")
    assert one.signed_fields == (b"from", b"to", b"to")
    assert (one.header_canonicalization, one.body_canonicalization) == ("relaxed", "simple")
    assert one.key_name == "a._b._domainkey.foreign.test"
    assert (one.length, one.signed_at, one.expires) == (None, None, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ("simple", "simple")),
        ("simple", ("simple", "simple")),
        ("relaxed", ("relaxed", "simple")),
        ("simple/relaxed", ("simple", "relaxed")),
    ],
)
def test_canonicalizations_are_simple_where_nothing_is_said(value, expected):
    one = signature.parse(field(c=value))
    assert (one.header_canonicalization, one.body_canonicalization) == expected


def test_the_value_of_b_alone_is_taken_out():
    for octets, expected in (
        (b"DKIM-Signature: b=AAAA; bh=HASH; v=1", b"DKIM-Signature: b=; bh=HASH; v=1"),
        (b"dkim-signature:v=1;\r\n\tb =\r\n A A\r\n AA ;bh=HASH", b"dkim-signature:v=1;\r\n\tb =;bh=HASH"),
        (b"DKIM-Signature: v=1; z=b=x; bh=HASH; b=AAAA\r\n ", b"DKIM-Signature: v=1; z=b=x; bh=HASH; b="),
    ):
        rest = b"; a=rsa-sha256; d=x.test; s=y; h=from"
        whole = octets + rest if octets.endswith((b"1", b"H")) else octets.replace(b" v=1;", b" v=1" + rest + b";")
        wanted = expected + rest if whole.endswith(rest) else expected.replace(b" v=1;", b" v=1" + rest + b";")
        if b"v=1" in whole:
            whole = whole.replace(b"HASH", HASH.encode()).replace(b"dkim-signature:v=1", b"dkim-signature:v=1")
        assert signature.parse(whole).unsigned_field() == wanted.replace(b"HASH", HASH.encode())


@pytest.mark.parametrize("name", TAGS)
def test_required_tags_are_required(name):
    tags = {key: value for key, value in TAGS.items() if key != name}
    with pytest.raises(Invalid, match=f"no tag {name}="):
        signature.parse(("DKIM-Signature: " + ";".join(f"{k}={v}" for k, v in tags.items())).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"a": "rsa-sha1"},
        {"a": "RSA-SHA256"},
        {"a": "none"},
        {"d": ""},
        {"d": "foreign..test"},
        {"d": ".foreign.test"},
        {"d": "foreign.test."},
        {"d": "foreign test"},
        {"d": "a" * 64 + ".test"},
        {"d": ".".join(["abcdefg"] * 31)},
        {"d": "foreign.test\r\n .other"},
        {"s": ""},
        {"s": "*"},
        {"s": "a/b"},
        {"h": ""},
        {"h": "to"},
        {"h": "from::to"},
        {"h": "from:"},
        {"h": "from:a b"},
        {"c": "nofws"},
        {"c": "relaxed/"},
        {"c": "/simple"},
        {"c": "simple/simple/simple"},
        {"c": ""},
        {"q": "dns"},
        {"i": "x@other.test"},
        {"i": "x@xforeign.test"},
        {"i": "foreign.test"},
        {"i": ""},
        {"i": "x@.foreign.test"},
        {"t": "x"},
        {"t": "-1"},
        {"t": "9" * 13},
        {"x": ""},
        {"t": "5", "x": "5"},
        {"t": "6", "x": "5"},
        {"l": "-1"},
        {"l": "1" * 77},
        {"l": "99999999999999999999999999 9"},
        {"bh": "!"},
        {"b": "A"},
        {"b": "AAAA; b=AAAA"},
        {"b": "AAAA; junk"},
    ],
    ids=str,
)
def test_what_could_not_count_is_invalid(changes):
    with pytest.raises(Invalid):
        signature.parse(field(**changes))


@pytest.mark.parametrize(
    "octets", [b"DKIM-Signature:", b"DKIM-Signature: junk", b"DKIM-Signature: v=2", b"DKIM-Signature: \xff"]
)
def test_junk_is_invalid(octets):
    with pytest.raises(Invalid):
        signature.parse(octets)
