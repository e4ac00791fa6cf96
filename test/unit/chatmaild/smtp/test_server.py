"""The SMTP server with a handler of the test's own; what it does to mail is tested with the filter."""

import contextlib

import pytest

from chatmaild.limits.budget import SMALL_MESSAGE
from chatmaild.smtp.server import Handler, Server
from test.support.serving import serving
from test.support.smtp_peers import Client


class Faulty(Handler):
    """Has a fault, of which the second message takes no notice."""

    def __init__(self) -> None:
        self.calls = 0

    async def handle_DATA(self, server, session, envelope) -> str:
        self.calls += 1
        return f"250 {10 // (self.calls - 1)}"


def test_a_fault_is_a_temporary_failure_and_the_dialogue_goes_on(caplog):
    with serving(Server(Faulty(), 1000).serve) as port:
        client = Client(port)
        assert client.mail("a@b", "c@d", b"Hello!\r\n") == "451 Local error"
        assert client.mail("a@b", "c@d", b"Hello!\r\n") == "250 10"
        client.close()
    (record,) = [record for record in caplog.records if record.name == "chatmaild.smtp.server"]
    assert record.exc_info[0] is ZeroDivisionError


class Quoting(Handler):
    """Answers with what the client said."""

    async def handle_MAIL(self, server, session, envelope, address, mail_options) -> str:
        return f"550 <{address}>"


@pytest.mark.parametrize("path", ["\N{SNOWMAN}@b", "a" * 1000 + "@b"])
def test_what_a_handler_quotes_fits_in_a_reply(path):
    with serving(Server(Quoting(), 1000).serve) as port:
        client = Client(port)
        reply = client.command(f"MAIL FROM:<{path}>")
        client.close()
    assert reply.isascii() and reply.startswith("550 <") and len(reply) <= 510


class Keeping(Handler):
    """Remembers what it is given."""

    def __init__(self) -> None:
        self.given = []

    async def handle_DATA(self, server, session, envelope) -> str:
        self.given.append((envelope.mail_from, envelope.rcpt_tos, bytes(envelope.content)))
        return "250 OK"


def test_a_message_stays_as_it_came():
    keeping = Keeping()
    with serving(Server(keeping, 1000).serve) as port:
        client = Client(port)
        for sender in ["", "A@b"]:
            client.begin(sender, "C@d")
            client.send(b"..dots\r\n.\r\n")
            assert client.reply() == "250 OK"
        client.close()
    assert keeping.given == [("", ["C@d"], b"..dots\r\n"), ("A@b", ["C@d"], b"..dots\r\n")]


def test_a_network_that_sends_many_large_messages_keeps_no_other_waiting():
    size = 10 * SMALL_MESSAGE
    with serving(Server(Handler(), size).serve) as port, contextlib.ExitStack() as stack:

        def begun(address: str) -> Client:
            client = Client(port)
            stack.callback(client.close)
            for command in ("EHLO a", f"XFORWARD ADDR={address}", f"MAIL FROM:<a@b> SIZE={size}", "RCPT TO:<c@d>"):
                assert client.command(command).startswith("250")
            client.send(b"DATA\r\n")
            return client

        # There is room for four, of which a network has half.
        first, second, third = (begun(f"192.0.2.{number}") for number in range(3))
        assert [first.reply()[:3], second.reply()[:3]] == ["354", "354"]
        assert begun("198.51.100.1").reply()[:3] == "354"
        first.send(b"a\r\n.\r\n")
        assert first.reply() and third.reply()[:3] == "354"
