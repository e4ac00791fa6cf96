"""What is found out about the ways to a domain."""

import asyncio
import json

import pytest

from chatmaild import reach, socketmap
from chatmaild.outbound.connecting import Connector
from chatmaild.outbound.destinations import Destinations
from chatmaild.outbound.smtp_trial import Caller
from chatmaild.reach import Look
from chatmaild.transport import tables
from test.support.mxdeliv import NOT_FOUND, SILENCE, WebServer, serving
from test.support.push_server import make_certificate
from test.unit.chatmaild.outbound.conftest import directory, loopback_is_elsewhere, name_server  # noqa: F401  fixtures

CALLER = Caller("here.example", "postmaster@here.example")

pytestmark = pytest.mark.usefixtures("loopback_is_elsewhere")


@pytest.fixture
def look(directory, tmp_path, monkeypatch):  # noqa: F811
    """Look at a domain; its web server answers GET as said, and nobody is there for SMTP."""
    certificate, key = make_certificate(tmp_path, "mx.relay.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(reach, "TRANSPORT", ("127.0.0.1", 1))

    def run(domain: str, server: WebServer | None = None, policy: str | None = "NOTFOUND ") -> dict:
        async def running() -> dict:
            async with serving(server or WebServer(), certificate, key) as web, directory(policy) as known:
                return await Look(CALLER, known, Connector(web.port), smtp_port=1).at(domain)

        # As it is printed.
        return json.loads(json.dumps(asyncio.run(running())))

    return run


def test_a_relay(look):
    found = look("relay.example")
    (server,) = found["servers"]
    assert server["https"] == {"is_relay": True, "connects": True, "said": "HTTP status 405"}
    assert (server["name"], server["addresses"], server["is_allowed"]) == ("mx.relay.example", ["127.0.0.2"], True)
    assert (found["known"], found["error"], found["mta_sts"]) == (None, "", None)


@pytest.mark.parametrize(
    "introduction, said", [(NOT_FOUND, "HTTP status 404"), (b"nonsense\r\n\r\n", "illegal status line")]
)
def test_a_web_server_that_is_no_relay(look, introduction, said):
    (server,) = look("relay.example", WebServer(introduction))["servers"]
    assert not server["https"]["is_relay"]
    assert said in server["https"]["said"]


def test_a_web_server_that_is_silent_does_not_hold_up_the_answer(look, monkeypatch):
    monkeypatch.setattr(reach, "TRIAL_S", 0.5)
    (server,) = look("relay.example", WebServer(SILENCE))["servers"]
    assert server["https"] == {"is_relay": False, "connects": False, "said": "no answer within 0.5 s"}


def test_who_is_not_allowed_by_the_policy_is_told(look):
    found = look("relay.example", policy="OK secure match=mx.other.example servername=hostname")
    assert found["mta_sts"] == ["mx.other.example"]
    assert [server["is_allowed"] for server in found["servers"]] == [False]


def test_a_policy_that_cannot_be_told_is_a_problem(look):
    assert look("relay.example", policy=None)["problems"]


@pytest.mark.parametrize(
    "domain, final, text", [("null.example", True, "null MX"), ("nowhere.example", True, "not found")]
)
def test_a_domain_without_mail_servers(look, domain, final, text):
    found = look(domain)
    assert (found["is_final"], found["servers"]) == (final, [])
    assert text in found["error"]


def test_what_the_daemon_knows(directory, monkeypatch):  # noqa: F811
    async def running() -> list:
        async with directory() as known:
            destinations = Destinations(known, Connector(1))
            answers = tables(destinations, 8465)
            serve = lambda reader, writer: socketmap.serve_connection(answers, reader, writer)  # noqa: E731
            async with await asyncio.start_server(serve, "127.0.0.1", 0) as service:
                monkeypatch.setattr(reach, "TRANSPORT", service.sockets[0].getsockname())
                before = await reach.known("relay.example")
                destinations.way("relay.example")
                while destinations._openings:
                    await asyncio.wait(destinations._openings)
                return [before, await reach.known("relay.example")]

    before, after = asyncio.run(running())
    assert before == {"way": "either", "seconds": 0, "why_not_https": ""}
    assert (after["way"], after["seconds"] > 1700) == ("smtp", True)
    assert after["why_not_https"] == "mx.relay.example[127.0.0.2]:1: Connection refused"


def test_its_fallback_knows_nothing(monkeypatch):
    async def running() -> dict | None:
        serve = lambda reader, writer: socketmap.serve_connection({}, reader, writer)  # noqa: E731
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as service:
            monkeypatch.setattr(reach, "TRANSPORT", service.sockets[0].getsockname())
            return await reach.known("relay.example")

    assert asyncio.run(running()) is None


def test_of_many_domains_a_daemon_that_hangs_is_waited_for_once(monkeypatch):
    async def run() -> dict:
        all_have_asked = asyncio.Barrier(3)

        async def hangs(*_) -> str:
            await all_have_asked.wait()
            raise TimeoutError

        monkeypatch.setattr(socketmap, "ask", hangs)
        async with asyncio.timeout(10):
            return await reach.all_known(["a.example", "b.example", "c.example"])

    assert asyncio.run(run()) == {"a.example": None, "b.example": None, "c.example": None}
