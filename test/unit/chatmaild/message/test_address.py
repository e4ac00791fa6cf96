"""Addresses in SMTP commands and From fields."""

import random

import pytest

from chatmaild.filter import rules
from chatmaild.message import mime
from chatmaild.message.address import FROM_MAX, PATH_MAX, decode, encode, parse_from, parse_path, same
from chatmaild.smtp.data import InvalidData
from test.support import readers
from test.support.hostile import from_value


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
    [
        *("", "<", "<a@b", "<a@b@c>", "<a b@c>", "<a@>", "<@b>", "<a@b\0>", "<a@b\rc>", "<a@b,c@d>", "<a@[b>"),
        *("<(x)a@b>", "<a@b>>", "<a@b><c@d>", "<a@b>c", "a@b>", "< a@b >", "<>x", '"x" <a@b>', '"x"<a@b>', "a@b,c@d"),
    ],
)
def test_broken_paths_are_refused(argument):
    assert parse_path(argument) is None


@pytest.mark.parametrize("route", ["@x(c", "@x@y", '@"x', '@"x":y', "@[x", "@x,y", "@x, @y", "@", "@x:@y", "x"])
def test_only_a_source_route_is_dropped(route):
    for path in (f"{route}:alice@example.org", f"<{route}:alice@example.org>"):
        assert parse_path(path) is None
    assert parse_path("@one.example:alice@example.org") is None  # without brackets


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
        ("alice@example.org (Alice no. 1)", "alice@example.org"),
        ("(Alice) <alice@example.org> (Jörg)", "alice@example.org"),
        ('John "Johnny" J. Doe < alice@example.org >', "alice@example.org"),
        ('"" <alice@example.org>', "alice@example.org"),
        ("Alice\t<alice@example.org>", "alice@example.org"),
        ("Alice\r\n\tL.\r\n <alice@example.org>", "alice@example.org"),
        ("=?utf-8?q?J=C3=B6rg?=\r\n =?utf-8?q?A?=\r\n <alice@example.org>", "alice@example.org"),
        ("=?utf-8?q?J=C3=B6rg?= =?utf-8?b?w7Y=?=<alice@example.org>", "alice@example.org"),
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
        "a@b.",
        "a..b@c",
        ".a@b",
    ],
)
def test_a_from_field_without_exactly_one_address_is_refused(value):
    assert parse_from(value.encode()) is None


@pytest.mark.parametrize(
    "value",
    [
        b'"(\t" <victim@_one.test>, "\t)" <attacker@_one.test>',
        b'"(\\\xc3\xa4" <victim@_one.test>, "\\\xc3\xa4)" <attacker@_one.test>',
        b'"(\t"\t")"<attacker@_one.test>',
        b'@a.test,@b":attacker@_one.test',
        b"@a.test:attacker@_one.test",
        b"<@a.test:attacker@_one.test>",
        b'"Al\\" <attacker@_one.test>',
        b'"Al\x00" <attacker@_one.test>',
        b'"Al\tIce" <attacker@_one.test>',
        b"Al\xffIce <attacker@_one.test>",
        b"Al\xc2\xa0Ice <attacker@_one.test>",
        b"Al\xe2\x80\xa8Ice <attacker@_one.test>",
        b"att\xc3\xa4cker@_one.test",
        b"attacker@\xc3\xb6ne.test",
        b'Al "<victim@_one.test>, \\"" <attacker@_one.test>',
        b'=?utf-8?q? "x?= <victim@_one.test>, =?utf-8?q?" ?= <attacker@_one.test>',
        b'"=?utf-8?q?J=C3=B6rg?=" <attacker@_one.test>',
        b"=?utf-8?q?a=?utf-8?q?b?= <attacker@_one.test>",
        b"=?utf-8?q?a?=@_one.test",
        b"attacker@_one.test (Alice (the one) <victim@_one.test>)",
        b'(5" comment) "Alice" <attacker@_one.test>',
        b'"attacker> "@_one.test',
        b'<"a b"@_one.test>',
        b"victim@_one.test <attacker@_one.test>",
        b"attacker@_one.test\r\n",
        b"Al\r\n \r\n <attacker@_one.test>",
        b'"Al\r\n <victim@_one.test>" <attacker@_one.test>',
        b"(Al\r\n Ice) <attacker@_one.test>",
    ],
)
def test_a_from_field_that_readers_understand_differently_is_refused(value):
    assert parse_from(value) is None


def _author(value: bytes) -> bytes | None:
    """The author that the filter sees in a message whose From field goes on with `value`."""
    message = readers.message_from(value, "text")
    try:
        return rules.from_address(readers.received(message)).encode()
    except (mime.MalformedMessage, InvalidData, rules.Refused):
        return None


def test_no_reader_in_python_names_another_author():
    source = random.Random(5322)
    values = [from_value(source) for _ in range(3000)]
    values += [b" a@b\r\n \r\n <victim@_one.test>", b" Al\r\n  \r\n <attacker@_one.test>"]
    # At this one Python's header registry has a fault of its own.
    values += [b"\r\n\t.tf-8?q?\r\n\tJ=C3=B6rg?= =?utf-8?q?_x?=\r\n <attacker@_one.test>"]
    authors = {value: _author(value) for value in values}
    for value, author in authors.items():
        assert author is None or readers.python_authors(readers.message_from(value, "text")) <= {author}, value
    assert sum(author is not None for author in authors.values()) > 50


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
