"""Port 443 is enough: each client is led to what it asks for by ALPN (RFC 7301), and nobody can hold it up."""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator, Sequence

import pytest

from test.relay import chat
from test.relay.chat import credentials, login_uri
from test.relay.delivery import Relay, User
from test.support import messages
from test.support.mail_clients import send, submission, unchecked_tls
from test.support.mailing import inbox

# Longer than nginx waits for a client that says nothing.
PATIENCE_S = 60


@contextlib.contextmanager
def tls(relay: Relay, alpn: Sequence[str] = ()) -> Iterator[ssl.SSLSocket]:
    """A connection to port 443 with the name of the relay and these protocols in its ClientHello."""
    with (
        socket.create_connection((relay.address, 443), timeout=20) as plain,
        unchecked_tls(alpn).wrap_socket(plain, server_hostname=relay.domain) as secured,
    ):
        yield secured


def client_hello(relay: Relay) -> bytes:
    """What a client sends first."""
    outgoing = ssl.MemoryBIO()
    client = unchecked_tls(["imap"]).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=relay.domain)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def status(relay: Relay, alpn: Sequence[str] = ()) -> tuple[str | None, int]:
    """The protocol that the server chose, and the HTTP/1.1 status of the first page."""
    with tls(relay, alpn) as secured:
        secured.sendall(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % relay.domain.encode())
        response = http.client.HTTPResponse(secured)
        response.begin()
        return secured.selected_alpn_protocol(), response.status


def test_a_new_address_is_made_and_mail_sent_noticed_and_fetched(one):
    writer, reader = (User(one, *credentials(one.domain)) for _ in range(2))
    with reader.imap(443) as client:
        client.idle()
        with submission(one.address, writer.address, writer.password, 443) as sender:
            send(sender, writer.address, [reader.address], messages.encrypted(writer.address, reader.address))
        assert client.wait_exists(1, 30)
        client.done()
        assert len(client.fetch()) == 1


def test_delta_chats_core_needs_no_other_port(lab, one, one_host, tmp_path):
    def login(domain: str) -> str:
        return login_uri(*credentials(domain), domain, imap_port=443, smtp_port=443)

    who = [("frank", one.domain), ("grace", one.domain)]
    with chat.clients(who, lab.resolver_argv, tmp_path, login) as (frank, grace):
        frank_chat, grace_chat = chat.make_contact(frank, grace)
        assert len(chat.round_trips(frank, frank_chat, grace, grace_chat, 1)) == 1
        others = one_host.run(["ss", "-Htn", "state", "established", "( sport = :993 or sport = :465 )"]).stdout
        assert others == ""


def test_web_clients_get_http2_where_they_offer_it(one):
    with tls(one, ["h2", "http/1.1"]) as secured:
        assert secured.selected_alpn_protocol() == "h2"
        # The preface and an empty SETTINGS frame (RFC 9113 section 3.4); the server's own SETTINGS come back.
        secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        assert secured.recv(9)[3] == 4
    assert status(one, ["http/1.1"]) == ("http/1.1", 200)


def test_clients_without_alpn_get_the_web_pages(one):
    assert status(one) == (None, 200)


@pytest.mark.parametrize("alpn", [["imap", "h2"], ["x-imap", "imap"]])
def test_imap_may_stand_anywhere_in_the_offer(one, alpn):
    with tls(one, alpn) as secured:
        assert secured.recv(100).startswith(b"* OK ")


@pytest.mark.parametrize("offered", ["imaps", "ximap", "imap-x", "smtps", "pop3"])
def test_protocols_that_nobody_speaks_are_refused(one, offered):
    """A server that chose one silently could be used for cross-protocol attacks (RFC 7301 section 3.2)."""
    with pytest.raises(ssl.SSLError, match="no application protocol"), tls(one, [offered]):
        pass


@pytest.mark.parametrize("alpn", [[], ["imap"], ["smtp"]])
def test_no_protocol_is_older_than_on_its_own_port(one, alpn):
    context = unchecked_tls(alpn)
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if alpn else ssl.TLSVersion.TLSv1_1
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with (
        pytest.raises((ssl.SSLError, ConnectionResetError)),
        socket.create_connection((one.address, 443), timeout=20) as plain,
        context.wrap_socket(plain),
    ):
        pass


def test_the_daemons_are_told_the_clients_address(lab, one_host, alice):
    with alice.imap(443):
        who = one_host.run(["doveadm", "-f", "tab", "who", alice.address]).stdout
    assert str(lab.layout.ipv4(1)) in who
    assert "127.0.0.1" not in who


def test_clients_that_say_nothing_or_half_are_sent_away_and_hold_up_nobody(one, alice):
    hello = client_hello(one)
    with contextlib.ExitStack() as stack:
        silent = []
        for said in [b"", hello[:1], hello[:5], hello[: len(hello) // 2], hello[:-1]] * 20:
            silent.append(stack.enter_context(socket.create_connection((one.address, 443), timeout=PATIENCE_S)))
            silent[-1].sendall(said)
        with alice.imap(443), submission(one.address, alice.address, alice.password, 443) as client:
            send(client, alice.address, [alice.address], messages.encrypted(alice.address, alice.address))
        assert status(one)[1] == 200
        for connection in silent:
            assert connection.recv(1) == b""
    assert len(inbox(alice)) == 1


def test_what_is_not_tls_is_told_so(one):
    with socket.create_connection((one.address, 443), timeout=20) as plain:
        plain.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\na LOGIN x y\r\n")
        assert b"400" in plain.recv(100)


def test_the_listeners_behind_it_are_on_loopback_alone(one):
    for port in (8443, 10465, 10993):
        with pytest.raises(OSError), socket.create_connection((one.address, port), timeout=5):
            pass
