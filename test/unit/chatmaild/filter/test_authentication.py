"""Bounces of relays without a name return what our users have sent; `test_filtermail.py` has the rest."""

import asyncio

import pytest

from chatmaild.filter.authentication import Authenticator
from chatmaild.message import dkim, mime
from test.support import messages
from test.support.signing import ForeignDomain
from test.unit.chatmaild.message.dkim.conftest import Records, private, public

DOMAIN = "chat.example.org"
ALICE = f"alice@{DOMAIN}"
STRANGER = "someone@[192.0.2.7]"


@pytest.fixture
def ours(rsa_key) -> ForeignDomain:
    return ForeignDomain(DOMAIN, private(rsa_key))


@pytest.fixture
def sent(ours) -> bytes:
    """A message of alice's as it leaves."""
    return ours.signed(messages.encrypted(ALICE, STRANGER))


@pytest.fixture
def verdict(rsa_key):
    """Why a bounce is refused, "" if it is not."""

    def verdict(bounce: bytes, *recipients: str, domain: str = DOMAIN) -> str:
        async def run(function, *arguments):
            return function(*arguments)

        records = Records({f"mail._domainkey.{DOMAIN}": [b"p=" + public(rsa_key)]})
        check = Authenticator(domain, records).check_returned(mime.parse(bounce), list(recipients), run)
        try:
            asyncio.run(check)
        except dkim.NotVerified as reason:
            return str(reason)
        return ""

    return verdict


def bounce(returned: bytes, kind: str = "message/rfc822") -> bytes:
    report = messages.bounce("MAILER-DAEMON@[192.0.2.7]", ALICE)
    closing = f"--{messages.BOUNDARY}--\r\n".encode()
    part = f"--{messages.BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode() + returned + b"\r\n"
    assert closing in report
    return report.replace(closing, part + closing)


def header(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[0] + b"\r\n"


@pytest.mark.parametrize("received", [b"", b"Received: by relay\r\n"])
def test_a_bounce_that_returns_what_we_signed_is_accepted(verdict, sent, received):
    assert verdict(bounce(received + header(sent) + b"\r\ncut"), ALICE) == ""
    assert verdict(bounce(received + header(sent), "text/rfc822-headers"), ALICE) == ""
    assert verdict(bounce(received + header(sent), "text/rfc822-headers"), ALICE.upper()) == ""


def test_other_bounces_are_refused(verdict, sent, ours):
    not_of_recipient = "The bounce does not return a message of its recipient"
    unsigned = messages.encrypted(ALICE, STRANGER)
    assert verdict(messages.bounce("MAILER-DAEMON@[192.0.2.7]", ALICE), ALICE) == not_of_recipient
    assert verdict(bounce(header(unsigned)), ALICE) == "No DKIM signature found"
    assert verdict(bounce(header(sent)), f"bob@{DOMAIN}") == not_of_recipient
    assert verdict(bounce(header(sent)), ALICE, f"bob@{DOMAIN}") == not_of_recipient
    assert verdict(bounce(b"From: <bob@chat.example.org>\r\n" + header(sent)), ALICE) == not_of_recipient
    assert verdict(bounce(header(sent), "text/plain"), ALICE) == not_of_recipient
    assert verdict(bounce(b"junk"), ALICE) == not_of_recipient
    changed = header(sent).replace(b"Subject: ...", b"Subject: other")
    assert verdict(bounce(changed), ALICE).startswith("No valid DKIM signature found")
    stranger = header(ours.signed(unsigned, domain="attacker.test"))
    assert verdict(bounce(stranger), ALICE).startswith("No valid DKIM signature found")


def test_a_relay_without_a_name_signs_nothing_and_accepts_none(verdict, sent):
    assert verdict(bounce(header(sent)), ALICE, domain="[192.0.2.9]").startswith("No valid DKIM signature found")
