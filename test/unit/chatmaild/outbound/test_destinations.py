"""Delivery by HTTPS, to relays, to other web servers, and to hostile ones."""

import asyncio
import contextlib
import errno
import gc
import tracemalloc
import weakref

import h11
import pytest

from chatmaild import ip_address
from chatmaild.outbound import destinations
from chatmaild.outbound.connecting import Connector
from chatmaild.outbound.destinations import CONNECTIONS_MAX, KNOWN_S, Destinations, Mail, Way, verdict
from chatmaild.outbound.mail_servers import Directory, NotNow, Server
from test.support.mxdeliv import DELIVERED, END, NOT_FOUND, SILENCE, Endless, WebServer, answer, serving
from test.support.push_server import make_certificate

MAIL = Mail("alice@here.example", ("bob@relay.example",), b"Subject: x\r\n\r\n.hidden\r\n")
TAKEN = "250 2.0.0 OK (HTTPS)"

pytestmark = pytest.mark.usefixtures("loopback_is_elsewhere")


class Outbound:
    """The destinations, with a clock that can be moved."""

    def __init__(self, directory: Directory, port: int) -> None:
        self.now = 1000.0
        self.all = Destinations(directory, Connector(port), lambda: self.now)

    async def settle(self) -> None:
        """Wait until nothing happens in the background."""
        while self.all._openings:
            await asyncio.wait(self.all._openings)

    async def way(self, domain: str = "_self.example") -> Way:
        """The way that is found out."""
        self.all.way(domain)
        await self.settle()
        return self.all.way(domain)

    async def deliver(self, mail: Mail = MAIL, domain: str = "_self.example") -> str:
        return await self.all.deliver(domain, mail)


@pytest.fixture
def run(directory, tmp_path, monkeypatch):
    """Run a coroutine function with the destinations, and a web server to which they lead; nobody has MTA-STS."""
    certificate, key = make_certificate(tmp_path, "mx.relay.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    def start(act, server: WebServer | None = None):
        async def running():
            async with serving(server or WebServer(), certificate, key) as web, directory() as known:
                return await asyncio.wait_for(act(Outbound(known, web.port), web), 60)

        return asyncio.run(running())

    return start


def test_a_message_and_its_envelope_arrive_as_they_are(run):
    mail = Mail("alice@here.example", ("bob@_self.example", '"x y"@_self.example'), b".a\r\n" + b"\0\xff" * 200_000)

    async def act(outbound, web):
        assert await outbound.deliver(mail) == TAKEN
        assert await outbound.deliver(Mail("", mail.recipients[:1], b"bounce\r\n")) == TAKEN
        first, second = web.posted
        assert (first.body, second.body) == (mail.message, b"bounce\r\n")
        assert first.values("x-mail-from") == ["alice@here.example"]
        assert first.values("x-mail-to") == list(mail.recipients)
        assert first.values("host") == ["mx.relay.example"]
        assert second.values("x-mail-from") == []
        assert web.connections == 1

    run(act)


def test_no_address_becomes_a_header_field_of_its_own(run):
    async def act(outbound, web):
        await outbound.deliver()
        for address in ("a\r\nX-Real-IP: 127.0.0.1@b", "a\nb@c", "a\0@b"):
            assert (await outbound.deliver(Mail(address, MAIL.recipients, b"x\r\n"))).startswith("553 ")
            assert (await outbound.deliver(Mail("a@b", (address,), b"x\r\n"))).startswith("553 ")
        assert len(web.posted) == 1

    run(act)


def test_a_relay_is_known_by_what_it_says_and_remembered(run):
    async def act(outbound, web):
        assert outbound.all.way("_self.example") is Way.EITHER
        assert await outbound.way() is Way.HTTPS
        outbound.now += KNOWN_S - 1
        assert outbound.all.way("_self.example") is Way.HTTPS
        outbound.now += 2
        assert outbound.all.way("_self.example") is Way.EITHER
        assert web.posted == []

    run(act)


@pytest.mark.parametrize(
    "introduction",
    [
        NOT_FOUND,
        answer(b"<html>Welcome", 200),
        answer(b"", 302, b"Location: https://127.0.0.2/mxdeliv"),
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 405 No\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
    ids=["not found", "page", "redirect", "no HTTP", "two lengths"],
)
def test_a_web_server_that_is_no_relay_gets_no_message_and_is_left_alone(run, introduction):
    async def act(outbound, web):
        assert await outbound.way() is Way.SMTP
        outbound.now += KNOWN_S - 1
        assert await outbound.way() is Way.SMTP
        assert (await outbound.deliver()).startswith("451 4.4.1 ")
        assert (web.connections, web.posted) == (1, [])
        outbound.now += 2
        assert outbound.all.way("_self.example") is Way.EITHER

    run(act, WebServer(introduction))


def test_who_cannot_be_reached_is_tried_again_soon(run, monkeypatch):
    async def refused(connector, server):
        raise NotNow("refused")

    async def act(outbound, web):
        with monkeypatch.context() as patch:
            patch.setattr(Connector, "connect", refused)
            assert await outbound.way() is Way.SMTP
        assert await outbound.way() is Way.SMTP
        outbound.now += destinations.RETRY_S + 1
        assert await outbound.way() is Way.HTTPS

    run(act)


def test_the_certificate_has_to_be_for_the_mail_server(run):
    async def act(outbound, web):
        assert await outbound.deliver(domain="relay.example") == TAKEN
        assert (await outbound.deliver(domain="other.example")).startswith(
            "451 4.4.1 Not delivered by HTTPS: the certificate of mx.other.example[127.0.0.2]:"
        )
        assert len(web.posted) == 1

    run(act)


def test_the_next_server_is_tried_where_one_cannot_be_reached(run):
    async def act(outbound, web):
        assert await outbound.deliver(domain="two.example") == TAKEN

    run(act)


@pytest.mark.parametrize(
    "reply, expected",
    [
        (answer(b"OK"), TAKEN),
        (answer(b""), TAKEN),
        (answer(b"250 OK\n"), TAKEN),
        (answer(b"523 Encryption Needed: x", 400), "523 Encryption Needed: x (HTTPS, mx.relay.example)"),
        (answer(b"450 Later", 400), "450 Later (HTTPS, mx.relay.example)"),
        (answer(b"552 Too large", 413), "552 Too large (HTTPS, mx.relay.example)"),
        (answer(b"550-one\r\n550 two", 400), "550-one 550 two (HTTPS, mx.relay.example)"),
    ],
)
def test_what_a_relay_says_is_what_postfix_hears(run, reply, expected):
    async def act(outbound, web):
        assert await outbound.deliver() == expected
        assert outbound.all.way("_self.example") is Way.HTTPS

    run(act, WebServer(answers=[reply]))


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"<html>Welcome</html>"),
        answer(b"250 OK", 201),
        answer(b"250 OK", 302, b"Location: https://127.0.0.2/elsewhere"),
        answer(b"250 OK", 400),
        answer(b"", 404),
        answer(b"", 405),
        answer(b"550 no", 404),
        answer(b"Forbidden", 403),
        answer(b"550 no" + b"x" * 5000, 400),
        b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n250 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n250 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n250 OK",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n250 OK",
        Endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        Endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 1000),
        Endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", b"250 OK" * 1000),
        Endless(b"HTTP/1.1 200 OK\r\n\r\n", b"250 OK" * 1000),
        Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=range(18),
)
def test_nothing_else_counts_as_delivery(run, reply, monkeypatch):
    monkeypatch.setattr(destinations, "DELIVER_S", 2)

    async def act(outbound, web):
        assert await outbound.way() is Way.HTTPS
        tracemalloc.start()
        assert (await outbound.deliver()).startswith("451 4.4.1 Not delivered by HTTPS: ")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
        tracemalloc.stop()
        assert outbound.all.way("_self.example") is Way.SMTP
        assert len(web.posted) == 1

    run(act, WebServer(answers=[reply]))


def test_what_h11_cannot_read_is_no_answer_of_a_relay(run, monkeypatch):
    """What h11 0.14 raises for a length of 5000 digits, which later ones refuse."""

    def next_event(connection):
        raise ValueError("Exceeds the limit (4300 digits) for integer string conversion")

    async def act(outbound, web):
        monkeypatch.setattr(h11.Connection, "next_event", next_event)
        assert (await outbound.deliver()).startswith("451 4.4.1 ")
        assert outbound.all.way("_self.example") is Way.SMTP

    run(act)


@pytest.mark.parametrize("reply", [SILENCE, Endless(b"HTTP/1.1 200 OK\r\n", b"X", 0.01)], ids=["silence", "trickle"])
def test_a_slow_server_has_bounded_time(run, reply, monkeypatch):
    monkeypatch.setattr(destinations, "DELIVER_S", 1)

    async def act(outbound, web):
        assert await outbound.way() is Way.HTTPS
        assert (await outbound.deliver()).startswith("451 4.4.1 ")
        assert outbound.all.way("_self.example") is Way.SMTP

    run(act, WebServer(answers=[reply]))


def test_a_server_that_is_slow_before_has_bounded_time_too(run, monkeypatch):
    monkeypatch.setattr(destinations, "OPEN_S", 1)

    async def act(outbound, web):
        assert await outbound.way() is Way.SMTP

    run(act, WebServer(SILENCE))


def test_a_kept_connection_that_ends_without_a_word_is_replaced(run):
    async def act(outbound, web):
        assert await outbound.deliver() == TAKEN
        assert await outbound.deliver() == TAKEN
        assert web.connections == 2

    run(act, WebServer(answers=[DELIVERED, END, DELIVERED]))


def test_a_kept_connection_that_leads_to_nobody_is_replaced(run):
    async def act(outbound, web):
        assert await outbound.deliver() == TAKEN
        (kept,) = outbound.all._known["_self.example"].idle
        # As asyncio does where what was sent is not acknowledged (TCP_USER_TIMEOUT).
        kept.connection._reader.set_exception(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
        assert await outbound.deliver() == TAKEN
        assert web.connections == 2

    run(act)


def test_a_new_connection_that_ends_is_a_temporary_failure(run):
    async def act(outbound, web):
        assert (await outbound.deliver()).startswith("451 4.4.1 ")
        assert len(web.posted) <= 2

    run(act, WebServer(answers=[END]))


def test_a_destination_has_few_connections_and_a_bounded_queue(run):
    async def act(outbound, web):
        go = asyncio.Event()
        web.hold = go.wait
        limit = CONNECTIONS_MAX + destinations.WAITING_MAX
        deliveries = [asyncio.create_task(outbound.deliver()) for _ in range(limit)]
        while web.at_once < CONNECTIONS_MAX:
            await asyncio.sleep(0.01)
        assert outbound.all.is_busy("_self.example")
        assert not outbound.all.is_busy("relay.example")
        assert (await outbound.deliver()).startswith("451 4.3.2 ")
        go.set()
        assert set(await asyncio.gather(*deliveries)) == {TAKEN}
        assert web.at_once_max == CONNECTIONS_MAX
        assert len(web.posted) == limit

    run(act)


def test_idle_connections_are_closed_after_a_while(run):
    async def act(outbound, web):
        await outbound.deliver()
        outbound.all.close_idle()
        assert len(web.writers) == 1
        outbound.now += destinations.KEEP_S + 1
        outbound.all.close_idle()
        while web.writers:
            await asyncio.sleep(0.01)

    run(act)


def test_a_connection_is_not_kept_for_ever_however_busy_it_is(run):
    """Who was the mail server once would get the mail for as long as there is some."""

    async def act(outbound, web):
        for _ in range(0, destinations.REUSE_S + 1, destinations.KEEP_S // 2):
            assert await outbound.deliver() == TAKEN
            outbound.now += destinations.KEEP_S // 2
        assert web.connections == 1
        assert await outbound.deliver() == TAKEN
        assert web.connections == 2

    run(act)


def test_a_destination_that_fails_does_not_keep_the_message(run):
    class Message(bytearray):
        """One that can be referred to weakly."""

    async def act(outbound, web):
        mail = Mail(MAIL.sender, MAIL.recipients, Message(MAIL.message))
        kept = weakref.ref(mail.message)
        assert (await outbound.deliver(mail)).startswith("451 4.4.1 ")
        del mail
        gc.collect()
        assert kept() is None

    run(act, WebServer(answers=[NOT_FOUND]))


def test_memory_is_bounded_whoever_is_written_to(run, monkeypatch):
    monkeypatch.setattr(destinations, "DESTINATIONS_MAX", 10)
    monkeypatch.setattr(destinations, "OPENINGS_MAX", 3)

    async def act(outbound, web):
        await outbound.deliver()
        for number in range(50):
            outbound.all.way(f"d{number}.lame.test")
        assert len(outbound.all._openings) <= 3
        assert len(outbound.all._known) <= 11
        await outbound.settle()
        assert outbound.all.way("_self.example") is Way.HTTPS
        assert web.connections == 1

    run(act)


@pytest.mark.parametrize("domain, reply", [("null.example", "556 5.1.10 "), ("nowhere.example", "550 5.1.2 ")])
def test_where_nobody_takes_mail_it_is_returned(run, domain, reply):
    async def act(outbound, web):
        assert (await outbound.deliver(domain=domain)).startswith(reply)

    run(act)


def test_this_hosts_other_addresses_are_none_of_a_mail_server(run):
    """Linux gives the client of 127.0.0.1 that very address, as with all addresses of a host."""

    async def act(outbound, web):
        with contextlib.closing(await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)) as server:
            connector = Connector(server.sockets[0].getsockname()[1])
            with pytest.raises(NotNow, match="address of this host"):
                await connector.connect(Server("x", (ip_address.parse("127.0.0.1"),), verified=False))

    run(act)


def test_a_status_alone_says_nothing():
    assert verdict(200, b"Not found") is None
    assert verdict(400, b"250 OK") is None
    assert verdict(400, b"<html>400 Bad Request</html>") is None
