"""Clients that never end what they have begun hold up nobody else; nothing here goes by time."""

import contextlib
import functools
import re
import smtplib
import socket
from collections.abc import Iterator

import pytest

from test.integration.test_mail_by_http import post
from test.lab import Host
from test.lab.networks import elsewhere
from test.relay.delivery import Relay, User
from test.support import messages
from test.support.mail_clients import unchecked_tls
from test.support.mailing import deliver, inbox, submit

# As many of this size filled the filter's memory, beside a small message.
LARGE = 30_000_000
FILLERS = 4
# More than the HTTP server of the filter serves at a time.
DELIVERIES = 205
MEDIUM = 900_000


def begin(client: smtplib.SMTP, sender: str, recipient: str, size: int) -> None:
    """Send most of a message."""
    client.ehlo_or_helo_if_needed()
    client.mail(sender)
    client.rcpt(recipient)
    assert client.docmd("DATA")[0] == 354
    client.sock.sendall(f"From: <{sender}>\r\n\r\n".encode() + size // 78 * (b"x" * 76 + b"\r\n"))


def smtp_client(relay: Relay, user: User | None = None) -> smtplib.SMTP:
    """A client of port 25, or of a user; to be closed without QUIT, which would be a line of its message."""
    if user:
        client = smtplib.SMTP_SSL(relay.address, 465, timeout=20, context=unchecked_tls())
        client.login(user.address, user.password)
    else:
        client = smtplib.SMTP(relay.address, 25, timeout=20)
        client.starttls(context=unchecked_tls())
    return client


@contextlib.contextmanager
def open_deliveries(relay: Relay, recipient: str, count: int) -> Iterator[None]:
    """Connections that have announced a large body for /mxdeliv and sent a little of it."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            plain = stack.enter_context(socket.create_connection((relay.address, 443), timeout=20))
            secured = stack.enter_context(unchecked_tls().wrap_socket(plain))
            secured.sendall(
                b"POST /mxdeliv HTTP/1.1\r\nHost: x\r\nX-MAIL-TO: %b\r\n" % recipient.encode()
                + b"Content-Length: %d\r\n\r\nFrom" % LARGE
            )
        yield


def encrypted(sender: str, recipient: User) -> bytes:
    return messages.encrypted(sender, recipient.address, payload=messages.encrypted_payload(MEDIUM))


def test_large_messages_left_open_on_port_25_hold_up_no_other(one, alice, foreign):
    author = f"someone@{foreign.name}"
    with contextlib.ExitStack() as stack:
        for size in [LARGE] * FILLERS + [MEDIUM]:
            client = stack.enter_context(contextlib.closing(smtp_client(one)))
            begin(client, author, alice.address, size)
        assert deliver(one.address, author, alice.address, foreign.signed(encrypted(author, alice))) is None
        assert post(one, author, [alice.address], foreign.signed(encrypted(author, alice))) == (200, "250 OK")
    assert len(inbox(alice, minimum=2)) == 2


def test_large_messages_left_open_by_a_user_hold_up_no_other(one, alice, bob):
    with contextlib.ExitStack() as stack:
        for _ in range(FILLERS):
            client = stack.enter_context(contextlib.closing(smtp_client(one, bob)))
            begin(client, bob.address, alice.address, LARGE)
        assert submit(alice, alice.address, encrypted(alice.address, alice)) is None
    assert len(inbox(alice)) == 1


def test_deliveries_left_open_hold_up_no_other_network(one, one_host, alice, foreign):
    author = f"someone@{foreign.name}"
    message = foreign.signed(encrypted(author, alice))
    with elsewhere([one_host], 1) as [place], open_deliveries(one, alice.address, DELIVERIES):
        status, reply = post(one, author, [alice.address], message)
        assert (status, reply[:10]) == (503, "451 4.7.0 ")
        assert post(one, author, [alice.address], message, place=place) == (200, "250 OK")
    assert len(inbox(alice)) == 1


@pytest.fixture
def low_share(one: Relay, one_host: Host) -> Iterator[None]:
    """A network has two places on each port; a twentieth of 1000 are more than a test needs."""
    usual = one_host.read("/etc/postfix/main.cf")
    one_host.write("/etc/postfix/main.cf", re.sub("policy_context=[0-9]+", "policy_context=2", usual))
    one_host.run(["postfix", "reload"])
    yield
    one_host.write("/etc/postfix/main.cf", usual)
    one_host.run(["postfix", "reload"])


def greeted(relay: Relay, port: int, place: str) -> smtplib.SMTP:
    """A client that Postfix has greeted; a connection may meet a process that a reload ends, the next meets another."""
    tls = functools.partial(smtplib.SMTP_SSL, context=unchecked_tls(["smtp"]))
    kind = tls if port in (443, 465) else smtplib.SMTP
    while True:
        try:
            return kind(relay.address, port, timeout=20, source_address=(place, 0))
        except (smtplib.SMTPServerDisconnected, ConnectionError):
            continue


def test_a_network_of_many_addresses_has_a_share_of_each_port(one, one_host, low_share):
    with elsewhere([one_host], 2, each=3) as [first, other, second, _, third, _]:
        for port in (25, 587, 465, 443):
            with contextlib.ExitStack() as stack:
                if port == 443:  # Browsers have no part in it.
                    for _ in range(3):
                        stack.enter_context(socket.create_connection((one.address, port), 20, (first, 0)))
                for place in (first, second):
                    stack.enter_context(greeted(one, port, place))
                with pytest.raises(smtplib.SMTPConnectError, match=r"421.*from your network"):
                    greeted(one, port, third)
                stack.enter_context(greeted(one, port, other))
