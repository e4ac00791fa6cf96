"""What our verifier accepts, another verifier accepts for the author whom another reader shows.

`test_mail_incoming.py` asks the same of the relay and of OpenDKIM.
"""

import asyncio
import email.policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatmaild.filter import rules
from chatmaild.message import dkim, mime
from test.support.hostile_mail import tampered
from test.support.signing import verified_domains
from test.unit.chatmaild.message.dkim.conftest import DOMAIN, Records, public


@pytest.fixture(scope="session")
def record(rsa_key) -> bytes:
    return b"v=DKIM1; k=rsa; p=" + public(rsa_key)


def accepted_author(message: bytes, record: bytes) -> str | None:
    """The author whom the filter would accept a message of, None if it refuses."""

    async def run(function, *arguments):
        return function(*arguments)

    records = Records({f"mail._domainkey.{DOMAIN}": [record]})
    try:
        entity = mime.parse(message)
        author = rules.from_address(entity)
        asyncio.run(dkim.verify(entity, author.rpartition("@")[2], records, run))
    except (mime.MalformedMessage, rules.Refused, dkim.NotVerified, dkim.TryAgain):
        return None
    return author


@settings(max_examples=300)
@given(rng=st.randoms(use_true_random=False))
def test_what_we_accept_others_accept_for_the_same_author(foreign, record, rng):
    message = tampered(rng, foreign)
    author = accepted_author(message, record)
    if author is None:
        return
    shown = email.message_from_bytes(message, policy=email.policy.default)["from"].addresses
    assert [one.addr_spec for one in shown] == [author]
    assert author.rpartition("@")[2].lower() in verified_domains(message, DOMAIN, record)
