"""Which domains Postfix is told to deliver to by DANE alone."""

import asyncio
import socket

import pytest

from chatmaild import dane_policy, socketmap
from chatmaild.dane_policy import Resolver, policy
from test.support.dns_servers import NameServer

DIGEST = "00" * 32
DANE, OTHER = "OK dane-only", "NOTFOUND "
ZONES = {
    "signed.example.": f"""
all        MX 10 mx1.signed.example.
all        MX 20 mx2.signed.example.
partly     MX 10 mx1.signed.example.
partly     MX 20 without.signed.example.
gone       MX 10 nobody.signed.example.
spare      MX 10 mx1.signed.example.
spare      MX 20 nobody.signed.example.
spare      MX 30 mx.lame.example.
lame       MX 10 mx.lame.example.
elsewhere  MX 10 mx.unsigned.example.
bare       A 192.0.2.1
_25._tcp.bare      TLSA 3 1 1 {DIGEST}
mx1        A 192.0.2.1
_25._tcp.mx1       TLSA 3 1 1 {DIGEST}
mx2        AAAA 2001:db8::1
_25._tcp.mx2       TLSA 1 1 1 {DIGEST}
_25._tcp.mx2       TLSA 2 0 2 {DIGEST * 2}
without    A 192.0.2.2
pkix       A 192.0.2.3
_25._tcp.pkix      TLSA 1 1 1 {DIGEST}
strange    A 192.0.2.3
_25._tcp.strange   TLSA 3 9 1 {DIGEST}
""",
    "unsigned.example.": f"""
@          MX 10 mx1.signed.example.
mx         A 192.0.2.4
_25._tcp.mx        TLSA 3 1 1 {DIGEST}
""",
}


@pytest.fixture(scope="module")
def server():
    """A resolver that has validated one of two zones, and refuses all names in others."""
    server = NameServer("127.0.0.1", 0, ZONES, signed=["signed.example."])
    yield server
    server.close()


@pytest.mark.parametrize(
    "destination, answer",
    [
        ("all.signed.example", DANE),
        ("ALL.signed.example", DANE),
        ("bare.signed.example", DANE),
        ("partly.signed.example", OTHER),
        ("without.signed.example", OTHER),
        ("pkix.signed.example", OTHER),
        ("strange.signed.example", OTHER),
        ("gone.signed.example", OTHER),
        ("nowhere.signed.example", OTHER),
        # Who forges an unsigned MX record has TLSA records of his own.
        ("unsigned.example", OTHER),
        ("elsewhere.signed.example", OTHER),
        # A server without DNS gets no mail, and must not keep the others from getting theirs.
        ("spare.signed.example", DANE),
    ],
)
def test_dane_is_demanded_where_all_servers_have_signed_tlsa_records(server, destination, answer):
    assert asyncio.run(policy(Resolver("127.0.0.1", server.port), destination)) == answer


@pytest.mark.parametrize("destination", ["lame.example", "lame.signed.example", f"{'x' * 64}.example", "a..example"])
def test_without_an_answer_mail_waits(server, destination):
    assert asyncio.run(policy(Resolver("127.0.0.1", server.port), destination)).startswith("TEMP ")


@pytest.mark.parametrize(
    "destination", ["[192.0.2.1]", "[IPv6:2001:db8::1]:25", ".example", ".", "", "a b", "a\0b", "\udcff"]
)
def test_nothing_is_asked_for_what_is_no_domain(server, destination):
    before = server.asked
    assert asyncio.run(policy(Resolver("127.0.0.1", server.port), destination)) == OTHER
    assert server.asked == before


def test_a_resolver_that_is_away_lets_mail_wait(monkeypatch):
    monkeypatch.setattr(dane_policy, "ANSWER_S", 0.2)
    # Bound, so that nobody else answers there, and nobody does here.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as away:
        away.bind(("127.0.0.1", 0))
        port = away.getsockname()[1]
        assert asyncio.run(policy(Resolver("127.0.0.1", port), "all.signed.example")).startswith("TEMP ")


async def answers(resolver: Resolver, *domains: str) -> list[str]:
    """What the service says of domains, asked by the protocol."""
    service = await asyncio.start_server(
        lambda reader, writer: socketmap.serve_connection(dane_policy.tables(resolver), reader, writer), "127.0.0.1", 0
    )
    async with service:
        return [await socketmap.ask(*service.sockets[0].getsockname(), "dane", domain) for domain in domains]


def test_postfix_is_answered(server):
    asked = answers(Resolver("127.0.0.1", server.port), "all.signed.example", "unsigned.example")
    assert asyncio.run(asked) == [DANE, OTHER]


def test_without_its_socket_it_says_how_to_start_it(run_service):
    result = run_service("chatmaild.dane_policy")
    assert result.returncode == 1
    assert "systemd passed 0 sockets, not 1" in result.stderr
