"""Programs that read the same message as our filter: what it accepts, none of them understands in another way.

Dovecot, OpenDKIM's library and Delta Chat's core are real ones, on this machine; no lab host is needed.
"""

import contextlib
import random

import pytest

from chatmaild.filter import rules
from chatmaild.message import mime, openpgp
from chatmaild.smtp.data import InvalidData
from test.support import readers
from test.support.hostile import ATTACKER, CLEARTEXT, SAMPLE, from_value, nearly_encrypted

# Delta Chat takes some 50 ms for a message.
CORPUS_MAX = 150
GENERATED = 5000
ENCRYPTED_TYPES = ["multipart/encrypted", "application/pgp-encrypted", "application/octet-stream"]


@pytest.fixture(scope="module")
def delta_chat():
    with readers.delta_chat() as core:
        yield core


@pytest.fixture(scope="module")
def accepted_from_values() -> list[bytes]:
    """Generated From fields that the filter accepts, after a check by those readers that are quick."""
    accepted = set()
    opendkim = readers.OpenDkim()

    source = random.Random(5322)  # the same ones at each run: new ones are for `make fuzz`
    for _ in range(GENERATED):
        value = from_value(source)
        message = readers.message_from(value, "text")
        try:
            author = rules.from_address(readers.received(message)).encode()
        except (mime.MalformedMessage, InvalidData, rules.Refused):
            continue
        # A signature is made and looked for by what OpenDKIM reads: it must name somebody.
        assert opendkim.authors(value) == {author}, value
        assert readers.python_authors(message) <= {author}, value
        accepted.add((value, author))
    return sorted(accepted)


def test_opendkim_and_python_name_the_author_that_the_filter_names(accepted_from_values):
    assert len(accepted_from_values) > 100


def test_delta_chat_shows_the_author_that_the_filter_names(accepted_from_values, delta_chat):
    step = max(1, len(accepted_from_values) // CORPUS_MAX)
    corpus = accepted_from_values[::step]
    shown = delta_chat.shown([readers.message_from(value, f"number {n}") for n, (value, _) in enumerate(corpus)])
    authors = {message["text"]: message["sender"]["address"].encode() for message in shown}
    assert len(authors) > len(corpus) // 2
    for number, (value, author) in enumerate(corpus):
        # It does not show what it cannot read, or from an address that it takes for none.
        assert authors.get(f"number {number}", author.lower()).lower() == author.lower(), value


@pytest.fixture(scope="module")
def accepted_as_encrypted() -> list[bytes]:
    """Generated messages that the filter takes for encrypted ones, after a check by Python."""
    accepted = {SAMPLE}

    source = random.Random(2046)
    for _ in range(GENERATED):
        message = nearly_encrypted(source)
        with contextlib.suppress(mime.MalformedMessage, InvalidData):
            if openpgp.is_encrypted_message(readers.received(message), outgoing=False):
                assert readers.python_structures(message) == [ENCRYPTED_TYPES] * 2, message
                accepted.add(message)
    return sorted(accepted)


def test_python_sees_two_parts_where_the_filter_sees_encrypted_mail(accepted_as_encrypted):
    assert len(accepted_as_encrypted) > 100


def test_dovecot_tells_clients_of_two_parts_where_the_filter_sees_encrypted_mail(accepted_as_encrypted):
    with readers.dovecot() as dovecot:
        structures = dovecot.structures(accepted_as_encrypted)
    assert len(structures) == len(accepted_as_encrypted)
    for message, structure in zip(accepted_as_encrypted, structures, strict=True):
        first, second = (
            structure.lower().find(b'("application" "pgp-encrypted"'),
            structure.lower().find(b'("application" "octet'),
        )
        assert 0 < first < second, message
        assert b'"encrypted"' in structure.lower()[second:], message
        assert b'"text"' not in structure.lower(), message


def test_delta_chat_shows_no_cleartext_where_the_filter_sees_encrypted_mail(accepted_as_encrypted, delta_chat):
    step = max(1, len(accepted_as_encrypted) // CORPUS_MAX)
    shown = delta_chat.shown(accepted_as_encrypted[::step])
    for message in shown:
        assert CLEARTEXT.decode() not in message["text"]
        assert message["sender"]["address"].encode() == ATTACKER
