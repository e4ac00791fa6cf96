"""Mail servers of SMTP that take mail, or do not: how far a dialogue with them goes."""

import asyncio
import contextlib
import ipaddress
import ssl

import pytest

from chatmaild.outbound import smtp_trial
from chatmaild.outbound.connecting import Connector
from chatmaild.outbound.mail_servers import Server
from chatmaild.outbound.smtp_trial import Caller, Trial, trial
from test.support.push_server import make_certificate

NAME, HOST = "mx.relay.example", "127.0.0.2"
CALLER = Caller("here.example", "postmaster@here.example")
RECIPIENT = "postmaster@relay.example"


def mail_server(replies: dict[str, str | None], context: ssl.SSLContext, said: list[str]):
    """Answers verbs as ``replies`` says, None for never; ``said`` gets what comes."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ssl.SSLError):
            writer.write(f"{replies['']}\r\n".encode())
            while line := (await reader.readline()).decode().strip():
                said.append(line)
                verb = line.partition(" ")[0]
                if replies[verb] is None:
                    await reader.read()
                writer.write(f"{replies[verb]}\r\n".encode())
                if verb == "STARTTLS":
                    await writer.start_tls(context)
        writer.close()

    return connected


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """The trial of a server that answers as said, and usually for the rest, and what it has been told."""
    certificate, key = make_certificate(tmp_path, NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    usual = {"": "220 mx", "EHLO": "250-mx\r\n250 STARTTLS", "STARTTLS": "220 go on", "MAIL": "250 yes"}
    usual |= {"RCPT": "250 2.1.5 Ok", "QUIT": "221 bye"}

    def run(*, trusted: bool = True, name: str = NAME, **replies: str | None) -> tuple[Trial, list[str]]:
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        said = []

        async def running() -> Trial:
            answers = usual | {"" if verb == "greeting" else verb: reply for verb, reply in replies.items()}
            async with await asyncio.start_server(mail_server(answers, context, said), HOST, 0) as listening:
                port = listening.sockets[0].getsockname()[1]
                server = Server(name, (ipaddress.ip_address("127.0.0.3"), ipaddress.ip_address(HOST)))
                return await trial(server, Connector().context(server), CALLER, RECIPIENT, port)

        return asyncio.run(running()), said

    return run


def test_a_server_that_takes_mail_is_asked_for_it_and_gets_none(tried):
    found, said = tried()
    assert found == Trial("", "250 2.1.5 Ok", HOST, "TLSv1.3")
    assert said == [
        *("EHLO here.example", "STARTTLS", "EHLO here.example"),
        *(f"MAIL FROM:<{CALLER.sender}>", f"RCPT TO:<{RECIPIENT}>", "QUIT"),
    ]


@pytest.mark.parametrize(
    "replies, failed, text",
    [
        ({"greeting": "554 5.7.1 blocked"}, "greeting", "554 5.7.1 blocked"),
        ({"greeting": "what"}, "greeting", "it ends the connection after it was made"),
        ({"EHLO": "250 mx"}, "tls", "it does not offer STARTTLS"),
        ({"STARTTLS": "454 4.7.0 not now"}, "tls", "454 4.7.0 not now"),
        ({"MAIL": "550 no\x1b[2J"}, "recipient", "550 no?[2J"),
        ({"RCPT": "450 4.2.0 greylisted"}, "recipient", "450 4.2.0 greylisted"),
        (
            {"RCPT": "250-x\r\n" * 200 + "250 x"},
            "recipient",
            "it ends the connection after RCPT TO:<" + RECIPIENT + ">",
        ),
    ],
)
def test_the_step_that_fails_and_what_is_said(tried, replies, failed, text):
    found, _ = tried(**replies)
    assert (found.failed, found.said) == (failed, text)


@pytest.mark.parametrize("options", [{"trusted": False}, {"name": "other.example"}])
def test_a_certificate_that_does_not_verify(tried, options):
    assert tried(**options)[0].failed == "certificate"


def test_a_server_that_is_silent(tried, monkeypatch):
    monkeypatch.setattr(smtp_trial, "ANSWER_S", 0.2)
    found, _ = tried(RCPT=None)
    assert found.failed == "recipient" and found.said.startswith("no answer within")


def test_nobody_listens():
    server = Server(NAME, (ipaddress.ip_address("127.0.0.3"),))
    found = asyncio.run(trial(server, Connector().context(server), CALLER, RECIPIENT, 1))
    assert (found.failed, found.said) == ("connect", "127.0.0.3: Connection refused")
