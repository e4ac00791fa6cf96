"""Which servers take the mail of a domain."""

import asyncio
import re
from pathlib import Path

import pytest

from chatmaild import ip_address, socketmap
from chatmaild.outbound.lookup import mail_servers
from chatmaild.outbound.mail_servers import NotNow, Undeliverable, is_domain, is_elsewhere, needs_certificate
from chatmaild.resolver import Resolver

POLICY_MAP = Path(__file__).parents[4] / "chatmail/postfix/files/etc/postfix/smtp_tls_policy_map"


@pytest.fixture
def ask(directory, loopback_is_elsewhere):
    """What is said of a domain, or raised; ``policy`` is what is said of MTA-STS, None where nobody is there."""

    def run(domain: str, policy: str | None = "NOTFOUND "):
        async def asking():
            async with directory(policy) as known:
                try:
                    return await known.servers(domain)
                except (NotNow, Undeliverable) as error:
                    return error

        return asyncio.run(asking())

    return run


def names(servers) -> list[str]:
    return [server.name for server in servers]


def test_servers_come_by_preference_and_without_any_the_domain_is_its_own(ask):
    assert names(ask("many.example")) == ["a.many.example", "b.many.example", "c.many.example"]
    assert names(ask("bare.example")) == ["bare.example"]


def test_who_says_that_it_takes_no_mail_gets_none(ask):
    assert str(ask("null.example")).startswith("556 5.1.10 null.example does not accept mail")


@pytest.mark.parametrize("domain", ["odd.example", "lost.example", "mxless.example", "nowhere.example"])
def test_who_has_no_server_with_an_address_gets_none_either(ask, domain):
    assert str(ask(domain)).startswith("550 5.1.2 ")


def test_where_the_dns_does_not_answer_mail_waits(ask):
    assert isinstance(ask("lame.test"), NotNow)


@pytest.mark.parametrize(
    "policy, allowed",
    [
        ("OK secure match=a.many.example servername=hostname", ["a.many.example"]),
        ("OK secure match=x.example:C.MANY.example", ["c.many.example"]),
        ("OK secure match=.many.example", ["a.many.example", "b.many.example", "c.many.example"]),
    ],
)
def test_a_policy_says_which_servers_may_be_used(ask, policy, allowed):
    assert names(ask("many.example", policy)) == allowed


@pytest.mark.parametrize(
    "policy", ["OK secure match=.example", "OK secure match=mx.evil.test", "TEMP later", "OK may", "", None]
)
def test_without_a_server_that_the_policy_allows_mail_does_not_go_by_https(ask, policy):
    assert isinstance(ask("many.example", policy), NotNow)


def test_a_daemon_that_is_silent_is_named_as_such(ask, monkeypatch):
    async def late(*_):
        raise TimeoutError

    monkeypatch.setattr(socketmap, "ask", late)
    assert str(ask("many.example")).endswith(" does not answer: it is silent")


def test_a_literal_is_its_own_server_without_dns_and_certificate(ask):
    for literal, address in (("[192.0.2.7]", "192.0.2.7"), ("[ipv6:2001:db8::1]", "2001:db8::1")):
        (server,) = ask(literal, None)
        assert (server.name, server.verified) == (address, False)


def test_only_who_can_have_a_certificate_needs_one(ask):
    assert [server.verified for server in ask("_self.example", None)] == [False]
    assert [server.verified for server in ask("relay.example")] == [True]


def test_who_needs_no_certificate_is_whom_postfix_asks_for_none():
    patterns = re.findall(r"^/(.+)/ +encrypt$", POLICY_MAP.read_text(), re.MULTILINE)
    assert len(patterns) == 2
    for domain in ("[192.0.2.7]", "[ipv6:::1]", "_one.test", "a_b.test", "relay.example", "_"):
        assert needs_certificate(domain) is not any(re.search(pattern, domain) for pattern in patterns)


def test_no_record_leads_to_this_host(name_server):
    resolver = Resolver("127.0.0.1", name_server.port)
    assert asyncio.run(mail_servers(resolver, "loop.example")) == "NOTFOUND "
    assert asyncio.run(mail_servers(resolver, "far.example")) == "OK far.example 192.0.2.1 2001:db8::1"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.9", "0.0.0.0", "::", "fe80::1", "224.0.0.1"])
def test_what_is_this_host_or_none(address):
    assert not is_elsewhere(ip_address.parse(address))


@pytest.mark.parametrize("key", ["", "[192.0.2.1]", "a b", "A..B", "x" * 64, "a\0b", "\udcff"])
def test_nothing_is_looked_up_for_what_is_no_domain(name_server, key):
    before = name_server.asked
    assert asyncio.run(mail_servers(Resolver("127.0.0.1", name_server.port), key)) == "NOTFOUND "
    assert name_server.asked == before


@pytest.mark.parametrize("domain", ["relay.example", "_one.test", "[192.0.2.7]", "[ipv6:2001:db8::1]", "a-b.c"])
def test_domains(domain):
    assert is_domain(domain)


@pytest.mark.parametrize(
    "domain",
    [
        *("", ".", "a..b", "-a.b", "a-.b", "[]", "[a.b]", "[1.2.3]", "[1.2.3.4", "a b", "a/b", "a\nb", "\u00e4.b"),
        *("x" * 64 + ".b", ".".join(["x" * 60] * 5), "relay.example."),
    ],
)
def test_what_is_no_domain(domain):
    assert not is_domain(domain)
