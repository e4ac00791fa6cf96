"""What a proxy forwards follows from the addresses of its relay."""

import re

import pytest

from test.render.test_disable_ipv6 import rendered

RELAY = {"mail_domain": "chat.example.org"}


def rules(renderer, **pillar):
    files = dict(rendered(renderer, RELAY | pillar, "chatmail.proxy"))
    return re.findall(r"(tcp|udp) dport \{ (.*?) \} dnat (\S+) to (\S+)", files["/etc/chatmail/proxy.nft"])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (["192.0.2.7"], {("ip", "192.0.2.7")}),
        (["2001:db8::7"], {("ip6", "2001:db8::7")}),
        (["192.0.2.7", "2001:db8::7"], {("ip", "192.0.2.7"), ("ip6", "2001:db8::7")}),
        ("192.0.2.7", {("ip", "192.0.2.7")}),
    ],
)
def test_each_family_of_the_relay_is_forwarded(renderer, target, expected):
    assert {rule[2:] for rule in rules(renderer, proxy_target=target)} == expected


def test_ssh_is_not_forwarded_and_turn_has_its_range(renderer):
    ports = {rule[0]: rule[1] for rule in rules(renderer, proxy_target=["192.0.2.7"], turn_min_port=50000)}
    assert ports == {"tcp": "25, 80, 143, 443, 465, 587, 993", "udp": "3478, 50000-65535"}


def test_with_disable_ipv6_nothing_of_it_is_forwarded(renderer):
    pillar = RELAY | {"proxy_target": ["192.0.2.7", "2001:db8::7"], "disable_ipv6": True}
    files = dict(rendered(renderer, pillar, "chatmail.proxy"))
    assert "ip6" not in files["/etc/chatmail/proxy.nft"]
    assert "ipv6" not in files["/etc/chatmail/proxy.sysctl"]


def test_without_a_target_nothing_is_changed(renderer):
    low = renderer.low(RELAY, "chatmail.proxy")
    assert {chunk["__id__"] for chunk in low[:3]} == {"settings-valid", "proxy-preflight", "proxy-target"}
    assert all(chunk["failhard"] for chunk in low[:3])


def test_two_addresses_of_one_family_are_refused(renderer):
    first = renderer.low(RELAY | {"proxy_target": ["192.0.2.7", "192.0.2.8"]}, "chatmail.proxy")[0]
    assert [problem.split(":")[0] for problem in first["problems"]] == ["proxy_target"]
