"""Canonical forms, against the examples of RFC 6376 section 3.4.5 and dkimpy's."""

import hashlib
import random

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from chatmaild.message.dkim import canonicalization
from chatmaild.message.dkim.canonicalization import RELAXED, SIMPLE, BodyHash, hash_body, header_field

FORMS = {SIMPLE: Simple, RELAXED: Relaxed}
LINE = st.text(alphabet=" \tab", max_size=5)
BODY = st.lists(LINE, max_size=8).map(lambda lines: "".join(line + "\r\n" for line in lines).encode())


def of(octets: bytes) -> BodyHash:
    return BodyHash(hashlib.sha256(octets).digest(), len(octets))


def test_the_examples_of_the_rfc():
    body = b" C \r\nD \t E\r\n\r\n\r\n"
    assert hash_body(body, 0, len(body), RELAXED) == of(b" C\r\nD E\r\n")
    assert hash_body(body, 0, len(body), SIMPLE) == of(b" C \r\nD \t E\r\n")
    assert [header_field(field, RELAXED) for field in (b"A: X", b"B : Y\t\r\n\tZ  ")] == [b"a:X", b"b:Y Z"]
    assert header_field(b"B : Y\t\r\n\tZ  ", SIMPLE) == b"B : Y\t\r\n\tZ  "


@pytest.mark.parametrize(("form", "empty"), [(SIMPLE, b"\r\n"), (RELAXED, b"")])
@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n\r\n"])
def test_an_empty_body(form, empty, body):
    assert hash_body(body, 0, len(body), form) == of(empty)


@pytest.mark.parametrize("form", FORMS)
@given(body=BODY, step=st.integers(1, 20))
def test_where_pieces_end_does_not_matter(form, body, step):
    message = b"a: b\r\n\r\n" + body
    whole = canonicalization._STEP
    canonicalization._STEP = step
    try:
        assert hash_body(message, 8, len(message), form) == of(FORMS[form].canonicalize_body(body))
    finally:
        canonicalization._STEP = whole


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "body",
    [
        b" " * 4_000_000 + b"x\r\n",
        b" \t\r\n" * 1_000_000 + b"x\r\n",
        b"\r\n" * 2_000_000,
        b"x \t" * 1_000_000 + b"\r\n",
    ],
    ids=["one line of spaces", "lines of spaces", "empty lines", "words"],
)
def test_hostile_bodies_cost_linear_time(form, body):
    """In quadratic time this would not end before pytest's timeout."""
    assert hash_body(body, 0, len(body), form).length <= len(body) + 2


def test_relaxed_fields_are_those_of_dkimpy():
    rng = random.Random(3)
    for _ in range(2000):
        value = "".join(rng.choice([" ", "\t", "a", "B", ":", "\r\n "]) for _ in range(rng.randint(0, 12)))
        field = b"Name:" + value.encode()
        ((name, canonical),) = Relaxed.canonicalize_headers([(b"Name", value.encode() + b"\r\n")])
        assert header_field(field, RELAXED) + b"\r\n" == name + b":" + canonical
