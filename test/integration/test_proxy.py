"""A second host hands all on to a relay. The tests tell one story, in order, and clients know the proxy alone."""

import http.client
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from test.integration.conftest import PERMISSIVE
from test.lab import Host, Lab
from test.lab.saltconf import SaltFailed
from test.relay.delivery import Relay, new_user
from test.support import messages
from test.support.mail_clients import unchecked_tls
from test.support.mailing import inbox, submit
from test.support.waiting import wait_until

NAME = "proxy.test"
TCP_PORTS = (25, 80, 143, 443, 465, 587, 993)
FOREIGN = "table ip foreign { chain input { type filter hook input priority filter; tcp dport 4444 drop; }; }"
# As soon as rules are on trial nobody can connect to ssh any more, and the apply that waits there dies.
LOSE_SSH = """
until [ -e /run/chatmail-proxy/trial ]; do sleep 0.05; done
nft 'table inet broken { chain input { type filter hook input priority filter; tcp dport 22 ct state new drop; }; }'
until [ -e /run/chatmail-proxy/loaded ]; do sleep 0.05; done
nft list table inet chatmail_proxy > /run/on-trial
for found in $(grep -szlx 'state[.]pkg' /proc/[0-9]*/cmdline); do
  process=${found%/cmdline}
  kill -KILL "${process#/proc/}"
done
"""
ECHO = """
import socket
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
    server.settimeout(20)
    server.bind(("::", 50001))
    print("ready", flush=True)
    data, client = server.recvfrom(100)
    server.sendto(data, client)
"""


def set_target(lab: Lab, *target: object) -> None:
    lab.pillar(NAME, {"chatmail": {"mail_domain": "_one.test", "proxy_target": list(map(str, target)), **PERMISSIVE}})


def apply(lab: Lab) -> dict:
    """By ssh, which is the proxy's own."""
    return lab.salt_ssh(NAME, "state.apply", "chatmail.proxy")


@pytest.fixture(scope="module")
def proxy(lab: Lab, one_host: Host) -> Iterator[Host]:
    """The proxy of ``_one.test``, whose name leads to it; the relay answers nobody else."""
    host = lab.add(NAME)
    host.run(["sh", "-c", "apt-get -qq update && apt-get -qq install nftables"], timeout=300)
    host.run(["nft", FOREIGN])
    set_target(lab, one_host.ipv4, one_host.ipv6)
    for family, address, own in (("-4", host.ipv4, "A"), ("-6", host.ipv6, "AAAA")):
        lab.publish("_one.test.", own, [str(address)])
        one_host.run(["ip", family, "rule", "add", "priority", "90", "to", str(address), "lookup", "main"])
        for port in TCP_PORTS:
            answers = ["ipproto", "tcp", "sport", str(port)]
            one_host.run(["ip", family, "rule", "add", "priority", "91", "prohibit", "iif", "lo", *answers])
    yield host
    for family, address, own in (("-4", one_host.ipv4, "A"), ("-6", one_host.ipv6, "AAAA")):
        lab.publish("_one.test.", own, [str(address)])
        for priority in ["90"] + ["91"] * len(TCP_PORTS):
            one_host.run(["ip", family, "rule", "delete", "priority", priority])
    lab.remove(NAME)


@pytest.fixture
def relay(proxy: Host) -> Relay:
    """The relay as its clients see it."""
    return Relay("_one.test", str(proxy.ipv4))


def test_a_client_of_the_proxy_logs_in_and_sends(lab, proxy, one_host, relay):
    apply(lab)
    with pytest.raises(OSError):
        socket.create_connection((str(one_host.ipv4), 993), timeout=1)
    for address in (proxy.ipv4, proxy.ipv6):
        there = Relay("_one.test", str(address))
        writer, reader = new_user(there), new_user(there)
        for port in (465, 587):
            assert submit(writer, reader.address, messages.encrypted(writer.address, reader.address), port=port) is None
        assert len(inbox(reader, 2)) == 2


def test_a_second_apply_changes_nothing_and_foreign_tables_stay(lab, proxy):
    assert [state["changes"] for state in apply(lab).values() if state["changes"]] == []
    assert "tcp dport 4444 drop" in proxy.run(["nft", "list", "table", "ip", "foreign"]).stdout


def test_other_relays_reach_the_relay_by_the_proxy_and_are_reached(relay, carol):
    alice = new_user(relay)
    assert submit(carol, alice.address, messages.encrypted(carol.address, alice.address)) is None
    assert submit(alice, carol.address, messages.encrypted(alice.address, carol.address)) is None
    assert len(inbox(alice)) == len(inbox(carol)) == 1


def test_web_pages_and_calls_pass(proxy, one_host):
    connection = http.client.HTTPSConnection(str(proxy.ipv4), context=unchecked_tls(), timeout=10)
    connection.request("GET", "/", headers={"Host": "_one.test"})
    assert connection.getresponse().status == 200
    init = one_host.init().pid
    echo = ["nsenter", f"--target={init}", "--all", "python3", "-c", ECHO]
    with subprocess.Popen(echo, stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == b"ready\n"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as call:
            call.settimeout(10)
            call.sendto(b"hello", (str(proxy.ipv4), 50001))
            assert call.recv(100) == b"hello"


def test_a_target_that_nft_would_not_take_is_refused_and_the_old_rules_stay(lab, proxy, one_host, relay):
    # An address with a zone is one, but not to nft(8).
    set_target(lab, "fe80::1%host0")
    with pytest.raises(SaltFailed, match=r"proxy_target: found \['fe80::1%host0'\]"):
        apply(lab)
    new_user(relay)
    set_target(lab, one_host.ipv4, one_host.ipv6)
    apply(lab)


def test_rules_are_undone_when_ssh_is_lost(lab, proxy, one_host, two_host, relay):
    set_target(lab, two_host.ipv4)
    lose = threading.Thread(target=proxy.run, args=(["sh", "-c", LOSE_SSH],), kwargs={"timeout": 120})
    lose.start()
    with pytest.raises(SaltFailed):
        apply(lab)
    lose.join()
    assert str(two_host.ipv4) in proxy.read("/run/on-trial")
    deadline = time.monotonic() + 60
    while (rules := proxy.run(["nft", "list", "table", "inet", "chatmail_proxy"]).stdout).count(str(two_host.ipv4)):
        assert time.monotonic() < deadline, "the timer does not undo the rules"
        time.sleep(0.5)
    assert str(one_host.ipv4) in rules
    new_user(relay)
    proxy.run(["nft", "delete", "table", "inet", "broken"])
    set_target(lab, one_host.ipv4, one_host.ipv6)
    apply(lab)


def test_it_forwards_again_after_a_reboot(lab, proxy, relay):
    # Such a host ends, and `up` boots it again.
    proxy.run(["systemctl", "reboot"], check=False)
    wait_until(lambda: not proxy.own_processes(), "the proxy does not go down")
    lab.up()
    assert "foreign" not in proxy.run(["nft", "list", "ruleset"]).stdout
    new_user(relay)
    assert [state["changes"] for state in apply(lab).values() if state["changes"]] == []


def test_a_host_that_listens_on_a_port_of_the_relays_is_refused(lab, proxy, one_host):
    lab.pillar("_one.test", {"chatmail": {"mail_domain": "_one.test", "proxy_target": [str(proxy.ipv4)], **PERMISSIVE}})
    try:
        with pytest.raises(SaltFailed, match="port 25/tcp is needed by the proxy, but taken by master"):
            lab.salt_ssh("_one.test", "state.apply", "chatmail.proxy")
    finally:
        lab.pillar("_one.test", {"chatmail": {"mail_domain": "_one.test", **PERMISSIVE}})
