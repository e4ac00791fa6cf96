"""Incoming mail by HTTP, at the filter as a process, between a client and a next server of the test's own."""

import http.client
import socket

import pytest

from test.support import messages
from test.support.smtp_peers import TIMEOUT_S
from test.unit.chatmaild.test_filtermail import ALICE, BOB, CAROL, DOMAIN, ENCRYPTION_NEEDED, running_filter

MAX = 100_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with running_filter("incoming", tmp_path_factory.mktemp("filter"), max_message_size=MAX) as relay:
        yield relay


@pytest.fixture
def relay(shared):
    shared.forget()
    return shared


def deliver(
    relay, message: bytes, sender: str | None, *recipients: str, method: str = "POST", clients: tuple[str, ...] = ()
) -> tuple[int, str]:
    """Deliver as another relay does; returns status and body. ``clients`` are what nginx says of its address."""
    connection = http.client.HTTPConnection("127.0.0.1", relay.http_port, timeout=TIMEOUT_S)
    connection.putrequest(method, "/mxdeliv")
    if sender is not None:
        connection.putheader("x-mail-from", sender)
    for recipient in recipients:
        connection.putheader("X-MAIL-TO", recipient)
    for client in clients:
        connection.putheader("X-Real-IP", client)
    connection.putheader("Content-Length", str(len(message)))
    connection.endheaders(message)
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


def encrypted(sender: str = CAROL) -> bytes:
    return messages.encrypted(sender, ALICE)


def test_an_encrypted_message_is_handed_on_unchanged(relay):
    message = encrypted()
    assert deliver(relay, message, CAROL, ALICE, BOB) == (200, "250 OK")
    (transaction,) = relay.next.delivered
    assert transaction.message == message
    assert transaction.commands[1:] == [
        f"MAIL FROM:<{CAROL}>".encode(),
        f"RCPT TO:<{ALICE}>".encode(),
        f"RCPT TO:<{BOB}>".encode(),
        b"DATA",
    ]


def test_lines_that_begin_with_a_dot_arrive_as_they_were(relay):
    message = encrypted().replace(b"\r\n\r\n", b"\r\n\r\n..two\r\n.\r\n.one\r\n", 1)
    assert deliver(relay, message, CAROL, ALICE) == (200, "250 OK")
    assert relay.next.delivered[0].message == message


@pytest.mark.parametrize("sender", [None, "", "<>", f"MAILER-DAEMON@{DOMAIN}"])
def test_the_null_sender_may_be_left_out_and_others_are_not_bounced_to(relay, sender):
    assert deliver(relay, encrypted(), sender, ALICE) == (200, "250 OK")
    assert b"MAIL FROM:<>" in relay.next.delivered[0].commands


def test_cleartext_to_a_fresh_address_is_refused_with_the_smtp_reply(relay):
    relay.flag(ALICE, "enforceE2EEincoming")
    assert deliver(relay, messages.plain(CAROL, ALICE), CAROL, ALICE) == (400, ENCRYPTION_NEEDED)
    assert relay.next.delivered == []


def test_mail_to_a_disabled_address_vanishes(relay):
    relay.flag(ALICE, "DISABLED")
    assert deliver(relay, encrypted(), CAROL, ALICE) == (200, "250 OK")
    assert relay.next.delivered == []


@pytest.mark.parametrize("recipients", [[], [CAROL], [ALICE, CAROL], [f"a%example.net@{DOMAIN}"], ["<>"], [""]])
def test_recipients_are_needed_and_ours(relay, recipients):
    status, reply = deliver(relay, encrypted(), CAROL, *recipients)
    assert status == 400
    assert reply[:3] in ("501", "503", "550")
    assert relay.next.transactions == []


def test_what_postfix_refuses_is_refused(relay):
    relay.next.replies["."] = b"550 5.7.1 No valid DKIM signature found\r\n"
    status, reply = deliver(relay, encrypted(), CAROL, ALICE)
    assert status == 400
    assert reply.startswith("550 5.7.1 No valid DKIM signature found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_are_refused(relay, method):
    assert deliver(relay, b"", CAROL, ALICE, method=method) == (405, "Method Not Allowed")


def test_the_largest_message_passes_and_one_octet_more_does_not(relay):
    message = encrypted()
    head, separator, body = message.partition(b"\r\n\r\n")
    filler = b"X: " + b"x" * 60 + b"\r\n"
    head += b"\r\n" + filler * 10
    padding = b"Y: " + b"y" * 10 + b"\r\n"
    message = head + padding + separator.removeprefix(b"\r\n") + body
    largest = message + b"\r\n" * ((MAX - len(message)) // 2)
    if len(largest) < MAX:
        largest = largest.replace(b"Y: y", b"Y: yy", 1)
    assert len(largest) == MAX
    assert deliver(relay, largest, CAROL, ALICE) == (200, "250 OK")
    too_large = 413, "552 Message exceeds maximum size"
    assert deliver(relay, largest + b"x", CAROL, ALICE) == too_large
    assert len(relay.next.delivered) == 1


@pytest.mark.parametrize("body", [b"", b"Hello!\n", b"Hello\nworld!\r\n", b"Hello!\r\r\n", b"\r", b".\r\nHello"])
def test_stray_line_ends_are_refused(relay, body):
    assert deliver(relay, body, CAROL, ALICE) == (400, "500 Invalid DATA")


@pytest.mark.parametrize(
    "octets",
    [
        b"\0\xff\r\n\r\n",
        b"POST /mxdeliv HT",
        b"POST /mxdeliv HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\nX-Mail-To: " + ALICE.encode() + b"\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 150_000,
        b"POST / HTTP/1.1\r\nHost: a\r\nX-Mail-To: " + b"x" * 300_000,
    ],
    ids=["octets", "half-line", "half-body", "two-lengths", "chunks", "long-line"],
)
def test_bad_input_delivers_nothing_and_the_next_client_is_served(relay, octets):
    with socket.create_connection(("127.0.0.1", relay.http_port), TIMEOUT_S) as client:
        try:
            client.sendall(octets)
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        except OSError:  # what was not read is cut off
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:100]
    assert relay.next.delivered == []
    assert deliver(relay, encrypted(), CAROL, ALICE) == (200, "250 OK")


def test_messages_follow_each_other_on_a_connection_and_memory_stays(relay):
    connection = http.client.HTTPConnection("127.0.0.1", relay.http_port, timeout=TIMEOUT_S)
    for _ in range(20):
        connection.request("POST", "/mxdeliv", encrypted(), {"X-MAIL-FROM": CAROL, "X-MAIL-TO": ALICE})
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"250 OK")
    connection.close()
    assert len(relay.next.delivered) == 20


def test_an_author_at_a_literal_is_accepted_from_that_address_alone(relay):
    author = "carol@[192.0.2.7]"
    message = encrypted(author)
    assert deliver(relay, message, author, ALICE, clients=("192.0.2.7",)) == (200, "250 OK")
    for clients, reply in (
        (("192.0.2.8",), "554 5.7.1 The domain of From is not the address of the client"),
        ((), "451 4.7.5 The address of the client is not known, try again later"),
        (("192.0.2.7", "192.0.2.8"), "451 4.7.5 The address of the client is not known, try again later"),
        (("[192.0.2.7]",), "451 4.7.5 The address of the client is not known, try again later"),
    ):
        assert deliver(relay, message, author, ALICE, clients=clients) == (400, reply)
    assert len(relay.next.delivered) == 1
