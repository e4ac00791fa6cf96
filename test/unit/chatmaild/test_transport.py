"""The two sockets of chatmail-transport: which way mail goes, and mail."""

import asyncio

import pytest

from chatmaild import transport
from chatmaild.outbound.destinations import Mail, Way
from chatmaild.smtp import replies
from chatmaild.smtp.server import Server
from chatmaild.transport import Delivery, Routes, alias
from test.support.serving import serving
from test.support.smtp_peers import Client

PORT = 8465


class Destinations:
    """Says of each domain what a test wants; an answer that is None never comes."""

    def __init__(self, way: Way = Way.HTTPS, answer=None) -> None:
        self._way = way
        self._answer = answer or (lambda mail: replies.DELIVERED)
        self.asked: list[str] = []
        self.delivered: list[tuple[str, Mail]] = []
        self.busy: set[str] = set()

    def way(self, domain: str) -> Way:
        self.asked.append(domain)
        return self._way

    def is_busy(self, domain: str) -> bool:
        return domain in self.busy

    async def deliver(self, domain: str, mail: Mail) -> str:
        self.delivered.append((domain, mail))
        if (reply := self._answer(mail)) is None:
            await asyncio.Event().wait()
        return reply


def route(key: str, way: Way = Way.HTTPS) -> str:
    return asyncio.run(Routes(Destinations(way), PORT)(key))


@pytest.mark.parametrize(
    "key, answer",
    [
        ("bob@Relay.Example", "OK https:[relay.example.localhost]:8465"),
        ('"a@b"@relay.example', "OK https:[relay.example.localhost]:8465"),
        ("bob@_one.test", "OK https:[_one.test.localhost]:8465"),
        ("bob@[192.0.2.7]", "OK https:[192.0.2.7.localhost]:8465"),
        ("bob@[IPv6:2001:db8::1]", "OK https:[ipv6-2001-db8--1.localhost]:8465"),
        ("bob@[IPv6:2001:db8::]", "OK https:[ipv6-2001-db8.localhost]:8465"),
        # What is no domain is Postfix's business, and a name that would be too long goes without ours.
        ("bob@", "OK smtp:"),
        ("bob@a b", "OK smtp:"),
        ("bob@\udcff.test", "OK smtp:"),
        (f"bob@{'.'.join(['x' * 60] * 4)}.abcdefg", "OK smtp:"),
        # The queue manager asks by address first, and for nothing else then.
        ("relay.example", "NOTFOUND "),
        ("*", "NOTFOUND "),
    ],
)
def test_the_way_of_an_address(key, answer):
    assert route(key) == answer


@pytest.mark.parametrize("way, answer", [(Way.SMTP, "OK smtp:"), (Way.EITHER, "OK either:")])
def test_other_ways_have_the_destination_itself_as_next_hop(way, answer):
    assert route("bob@relay.example", way) == answer


def test_each_destination_has_a_name_of_this_host():
    assert alias("a.example") != alias("b.example")
    assert alias(f"{'x' * 60}." * 4 + "abcdefg") is None


@pytest.fixture
def talk():
    """Let a client talk to the service: ``talk(act, destinations)``."""

    def run(act, destinations: Destinations):
        handler = Delivery("here.example", destinations)
        with serving(Server(handler, 1000).serve) as port:
            client = Client(port)
            try:
                return act(client)
            finally:
                client.close()

    return run


def lines(client: Client, message: bytes, *recipients: str) -> list[str]:
    """The answers to a message, one for each recipient."""
    client.begin("alice@here.example", *recipients)
    client.send(message)
    return [client.reply() for _ in recipients]


def test_lmtp_has_an_answer_for_each_recipient(talk):
    destinations = Destinations()

    def act(client):
        assert client.command("LHLO here").endswith("250 OK")
        return lines(client, b"..dot\r\n.\r\n", "a@b.example", "c@b.example")

    assert talk(act, destinations) == [replies.DELIVERED] * 2
    ((domain, mail),) = destinations.delivered
    assert domain == "b.example"
    assert mail == Mail("alice@here.example", ("a@b.example", "c@b.example"), b".dot\r\n")


def test_lmtp_has_an_answer_for_each_recipient_also_of_a_message_that_is_too_large(talk):
    def act(client):
        client.command("LHLO here")
        return lines(client, b"x" * 1_000_000 + b"\r\n.\r\n", "a@b.example", "c@b.example")

    destinations = Destinations()
    assert talk(act, destinations) == [replies.TOO_LARGE] * 2
    assert destinations.delivered == []


def answer_by_recipient(mail: Mail) -> str:
    return "550 nobody" if "nobody@b.example" in mail.recipients else replies.DELIVERED


def test_who_is_refused_does_not_keep_the_others_from_their_mail(talk):
    def act(client):
        client.command("LHLO here")
        return lines(client, b"x\r\n.\r\n", "a@b.example", "nobody@b.example", "c@b.example")

    answers = talk(act, Destinations(answer=answer_by_recipient))
    assert answers == [replies.DELIVERED, "550 nobody", replies.DELIVERED]


def test_who_has_mail_hears_so_however_slowly_the_others_are_answered(talk, monkeypatch):
    monkeypatch.setattr(transport, "ANSWER_S", 1)

    def answer(mail: Mail) -> str | None:
        return None if mail.recipients == ("slow@b.example",) else answer_by_recipient(mail)

    def act(client):
        client.command("LHLO here")
        return lines(client, b"x\r\n.\r\n", "a@b.example", "nobody@b.example", "slow@b.example", "c@b.example")

    answers = talk(act, Destinations(answer=answer))
    assert answers == [replies.DELIVERED, "550 nobody", replies.EACH_ALONE, replies.EACH_ALONE]


def test_smtp_has_one_answer_for_all_so_a_refusal_of_some_is_temporary(talk):
    def act(client):
        client.command("EHLO here")
        client.begin("alice@here.example", "a@b.example", "nobody@b.example")
        client.send(b"x\r\n.\r\n")
        first = client.reply()
        client.begin("alice@here.example", "nobody@b.example")
        client.send(b"x\r\n.\r\n")
        return [first, client.reply()]

    assert talk(act, Destinations(answer=answer_by_recipient)) == [replies.EACH_ALONE, "550 nobody"]


def test_who_is_not_to_be_delivered_to_is_refused_before_the_message(talk):
    destinations = Destinations()
    destinations.busy.add("busy.example")

    def act(client):
        client.command("LHLO here")
        client.command("MAIL FROM:<>")
        tried = ("a@here.example", "a@HERE.example", "a@b..example", "postmaster", "a@busy.example")
        answers = [client.command(f"RCPT TO:<{recipient}>") for recipient in tried]
        assert client.command("RCPT TO:<a@b.example>") == "250 OK"
        return [*answers, client.command("RCPT TO:<a@c.example>")]

    codes = [reply.split()[0] for reply in talk(act, destinations)]
    assert codes == ["550", "550", "553", "553", "451", "452"]


def test_a_reply_is_one_line_whatever_the_other_side_says(talk):
    def act(client):
        client.command("LHLO here")
        return lines(client, b"x\r\n.\r\n", "a@b.example", "c@b.example")

    answers = talk(act, Destinations(answer=lambda mail: "550 a\r\n250 OK\x00" + "x" * 1000))
    assert all(answer.startswith("550 a??250 OK?") and len(answer) <= 510 for answer in answers)


def test_without_its_sockets_it_says_how_to_start_it(run_service, write_config):
    result = run_service("chatmaild.transport", write_config())
    assert result.returncode == 1
    assert "systemd passed 0 sockets, not 2" in result.stderr
