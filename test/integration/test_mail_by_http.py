"""Mail of relays whose port 25 is blocked: /mxdeliv has the rules of port 25, origin check included."""

import contextlib
import http.client
import socket

import pytest

from test.integration.test_mail_incoming import BROKEN_SIGNATURES
from test.relay.delivery import Relay
from test.support import messages
from test.support.mail_clients import unchecked_tls
from test.support.mailing import inbox

MESSAGE_MAX = 31457280  # max_message_size


@pytest.fixture
def author(foreign) -> str:
    return f"someone@{foreign.name}"


def post(
    relay: Relay,
    sender: str,
    recipients: list[str],
    message: bytes,
    size: int | None = None,
    *,
    place: str = "",
    claimed: str = "",
) -> tuple[int, str]:
    """Deliver a message by HTTP, of which ``size`` octets are announced, from an address; returns status and body.

    ``claimed`` is the address that the client says it has.
    """
    connection = http.client.HTTPSConnection(
        relay.address, context=unchecked_tls(), timeout=60, source_address=(place, 0)
    )
    with contextlib.closing(connection):
        connection.putrequest("POST", "/mxdeliv")
        if sender:
            connection.putheader("X-MAIL-FROM", sender)
        for recipient in recipients:
            connection.putheader("X-MAIL-TO", recipient)
        if claimed:
            connection.putheader("X-Real-IP", claimed)
        connection.putheader("Content-Length", str(len(message) if size is None else size))
        connection.endheaders(message)
        response = connection.getresponse()
        return response.status, response.read().decode()


@pytest.mark.parametrize("size", [2000, 22_500_000], ids=["small", "nearly max_message_size"])
def test_signed_and_encrypted_mail_arrives_unchanged(alice, bob, foreign, author, size):
    message = messages.encrypted(author, bob.address, payload=messages.encrypted_payload(size))
    assert post(bob.relay, author, [alice.address, bob.address], foreign.signed(message)) == (200, "250 OK")
    for user in (alice, bob):
        [arrived] = inbox(user)
        assert arrived.split(b"\r\n\r\n", 1)[1] == message.split(b"\r\n\r\n", 1)[1]
        assert b"DKIM-Signature" not in arrived


def test_the_null_sender_may_bounce(one, bob, foreign):
    message = foreign.signed(messages.bounce(f"MAILER-DAEMON@{foreign.name}", bob.address))
    assert post(one, "", [bob.address], message) == (200, "250 OK")
    assert len(inbox(bob)) == 1


def test_what_port_25_would_refuse_is_refused_with_its_reply(one, bob, foreign, author):
    encrypted, plain = messages.encrypted(author, bob.address), messages.plain(author, bob.address)
    stranger = "someone@victim.test"
    stolen = foreign.signed(messages.encrypted(stranger, bob.address))
    broken = [f"DKIM-Signature: {field}\r\n".encode() + encrypted for field in BROKEN_SIGNATURES.values()]
    for sender, recipients, message, reply in (
        (author, [bob.address], encrypted, "554 5.7.1 No DKIM signature found"),
        (stranger, [bob.address], stolen, "554 5.7.1 No valid DKIM signature found"),
        (author, [bob.address], foreign.signed(encrypted) + b"x\r\n", "554 5.7.1 No valid DKIM signature found"),
        *((author, [bob.address], message, "554 5.7.1 No valid DKIM signature found") for message in broken),
        (author, [bob.address], foreign.signed(plain), "523 Encryption Needed"),
        (author, ["somebody@elsewhere.test"], foreign.signed(encrypted), "550 5.7.1"),
        (author, [bob.address, "x@elsewhere.test"], foreign.signed(encrypted), "550 5.7.1"),
        (author, [], foreign.signed(encrypted), "503 5.5.1"),
        (author, [bob.address], b"", "500 Invalid DATA"),
    ):
        status, body = post(one, sender, recipients, message)
        assert (status, body[: len(reply)]) == (400, reply)
    assert inbox(bob, minimum=0) == []


def test_a_disabled_address_gets_nothing_and_nobody_is_told(one, one_host, bob, foreign, author):
    flag = f"/home/vmail/mail/{one.domain}/{bob.address}/DISABLED"
    message = foreign.signed(messages.encrypted(author, bob.address))
    one_host.run(["touch", flag])
    assert post(one, author, [bob.address], message) == (200, "250 OK")
    one_host.run(["rm", flag])
    assert inbox(bob, minimum=0) == []


def test_too_much_is_refused_before_it_is_sent(one, bob, author):
    status, body = post(one, author, [bob.address], b"", MESSAGE_MAX + 1)
    assert status == 413
    assert body.startswith("552 Message exceeds maximum size")


def test_only_post_delivers(one):
    connection = http.client.HTTPSConnection(one.address, context=unchecked_tls(), timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/mxdeliv")
        assert connection.getresponse().status == 405


def test_an_address_literal_is_good_for_mail_from_that_address(one, two, bob):
    with socket.create_connection((one.address, 443), timeout=20) as connection:
        here = f"someone@[{connection.getsockname()[0]}]"
    assert post(one, here, [bob.address], messages.encrypted(here, bob.address)) == (200, "250 OK")
    there = f"someone@[{two.address}]"
    message = messages.encrypted(there, bob.address)
    for claimed in ("", two.address):
        status, body = post(one, there, [bob.address], message, claimed=claimed)
        assert (status, body[:9]) == (400, "554 5.7.1")
    assert len(inbox(bob)) == 1
