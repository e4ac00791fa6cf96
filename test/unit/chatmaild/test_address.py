"""Addresses in SMTP commands and From fields."""

import pytest

from chatmaild.address import FROM_MAX, PATH_MAX, decode, encode, parse_from, parse_path, same


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("<alice@example.org>", "alice@example.org"),
        (" <alice@example.org> SIZE=1000 BODY=8BITMIME", "alice@example.org"),
        ("<Alice@Example.ORG> ORCPT=rfc822;Alice@Example.ORG NOTIFY=NEVER", "Alice@Example.ORG"),
        ("alice@example.org", "alice@example.org"),
        ("alice@example.org SIZE=1", "alice@example.org"),
        ("<@one.example,@two.example:alice@example.org>", "alice@example.org"),
        (
            "<SRS1=HHH=example.com==HHH=TT=example.org=alice@example.net>",
            "SRS1=HHH=example.com==HHH=TT=example.org=alice@example.net",
        ),
        ("<a+b@example.net>", "a+b@example.net"),
        ("<x@[192.0.2.0]>", "x@[192.0.2.0]"),
        ("<x@[IPv6:2001:db8::1]>", "x@[IPv6:2001:db8::1]"),
        ('<"a>b c"@example.org> X=1', '"a>b c"@example.org'),
        ("<jörg@example.org> SMTPUTF8", "jörg@example.org"),
        ("<postmaster>", "postmaster"),
        ("<>", ""),
        ("<> BODY=8BITMIME", ""),
    ],
)
def test_paths_are_read_as_written(argument, path):
    assert parse_path(argument) == path


@pytest.mark.parametrize(
    "argument",
    ["", "<", "<a@b", "<a@b@c>", "<a b@c>", "<a@>", "<@b>", "<a@b\0>", "<a@b\rc>", "<a@b,c@d>", "<a@[b>", "<(x)a@b>"],
)
def test_broken_paths_are_refused(argument):
    assert parse_path(argument) is None


def test_paths_have_a_largest_length():
    assert parse_path(f"<{'a' * (PATH_MAX - 2)}@b>") is not None
    assert parse_path(f"<{'a' * (PATH_MAX - 1)}@b>") is None


@pytest.mark.parametrize(
    ("value", "author"),
    [
        ("alice@example.org", "alice@example.org"),
        ("<alice@example.org>", "alice@example.org"),
        ("Alice <alice@example.org>", "alice@example.org"),
        ('"Alice, \\"x@y\\"" <alice@example.org>', "alice@example.org"),
        ("=?utf-8?q?J=C3=B6rg?= <joerg@example.org>", "joerg@example.org"),
        ("Jörg <joerg@example.org>", "joerg@example.org"),
        ("alice@example.org (Alice (the one) <x@y>)", "alice@example.org"),
        ('(5" comment) "Alice" <alice@example.org>', "alice@example.org"),
        ("Team: Alice <alice@example.org>;", "alice@example.org"),
        ("one@[192.0.2.0]", "one@[192.0.2.0]"),
        ("<one@[IPv6:2001:db8::1]>", "one@[IPv6:2001:db8::1]"),
        ("a@_one.test", "a@_one.test"),
    ],
)
def test_the_one_address_of_a_from_field_is_found(value, author):
    assert parse_from(value.encode()) == author


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Alice",
        "<>",
        "a@b, c@d",
        "a@b; c@d",
        "<a@b> <c@d>",
        "a@b <c@d>",
        "<a@b> c@d",
        "undisclosed-recipients:;",
        "Team: a@b, c@d;",
        "A: B <a@b>",
        "(a@b",
        ") a@b",
        "a@b,",
        "<a@b",
        '"<a@b>',
        "a @b",
    ],
)
def test_a_from_field_without_exactly_one_address_is_refused(value):
    assert parse_from(value.encode()) is None


@pytest.mark.parametrize(
    "piece", [b" ", b'"', b'"\\', b"(", b"()", b"a", b'"" ', b"a@", b"<", b":", b" :", b"\\", b"\xff"]
)
def test_hostile_from_fields_are_refused(piece):
    assert parse_from(piece * (FROM_MAX // len(piece))) is None
    assert parse_from(piece * 1_000_000) is None


def test_octets_that_are_no_utf8_survive():
    octets = b"a\xff\xc3\xa4@b"
    assert encode(decode(octets)) == octets
    assert parse_path(decode(b"<" + octets + b">")) == decode(octets)


def test_only_the_case_of_ascii_letters_is_ignored():
    assert same("Alice@Example.ORG", "alice@example.org")
    assert not same("alice\N{KELVIN SIGN}@example.org", "alicek@example.org")
