"""A relay is reached by IPv6, and reaches others by it alone; and one that has no IPv4 address is a relay as any."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
import yaml

from test.integration.conftest import PERMISSIVE
from test.integration.test_https_delivery import until_known, ways
from test.lab import Host, Lab
from test.lab.apt import PORT as APT_PORT
from test.lab.layout import BRIDGE_NUMBER
from test.relay.delivery import Relay, User, new_user
from test.support import messages
from test.support.mailing import inbox, submit
from test.support.serving import servers


def test_clients_log_in_and_send_by_ipv6(one_host):
    relay = Relay(one_host.name, str(one_host.ipv6))
    writer, reader = new_user(relay), new_user(relay)
    assert submit(writer, reader.address, messages.encrypted(writer.address, reader.address)) is None
    assert len(inbox(reader)) == 1


def test_mail_goes_to_a_relay_that_has_no_ipv4_address(lab, two_host, alice, carol):
    lab.withdraw(f"{two_host.name}.", "A")
    try:
        assert submit(alice, carol.address, messages.encrypted(alice.address, carol.address)) is None
        assert len(inbox(carol)) == 1
    finally:
        lab.publish(f"{two_host.name}.", "A", [str(two_host.ipv4)])


@contextlib.contextmanager
def apt_by_ipv6(lab: Lab) -> Iterator[str]:
    """Where hosts without IPv4 reach the lab's apt cache, which has none but that: a proxy for apt.conf(5)."""
    near, far = str(lab.layout.ipv6(BRIDGE_NUMBER)), str(lab.layout.ipv4(BRIDGE_NUMBER))

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(far, APT_PORT)
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))

    async def start() -> list[asyncio.Server]:
        return [await asyncio.start_server(forward, near, APT_PORT)]

    with servers(start):
        yield f"http://[{near}]:{APT_PORT}"


@pytest.fixture(scope="module")
def six_host(lab: Lab, applied) -> Iterator[Host]:
    """A relay on a host that has IPv6 alone, the way to its controller, name server and packages included."""
    host = lab.add("_six.test")
    lab.withdraw(f"{host.name}.", "A")
    network = host.read("/etc/systemd/network/10-lab.network")
    host.write("/etc/systemd/network/10-lab.network", network.replace(f"[Address]\nAddress={host.ipv4}/24\n", ""))
    host.write("/etc/resolv.conf", f"nameserver {lab.name_server.ipv6}\n")
    host.run(["sed", "-i", f"/{lab.name_server.ipv4}/d", "/etc/unbound/unbound.conf.d/lab.conf"])
    host.run(["ip", "-4", "address", "flush", "dev", "host0"])
    roster = yaml.safe_load(lab.layout.roster.read_text())
    roster[host.name]["host"] = str(host.ipv6)
    lab.layout.roster.write_text(yaml.safe_dump(roster))
    known = lab.layout.known_hosts.read_text()
    lab.layout.known_hosts.write_text(known.replace(f"{host.ipv4} ", f"{host.ipv4},{host.ipv6} "))
    root = {"dns_root_servers": [str(lab.name_server.ipv6)]}
    lab.pillar(host.name, {"chatmail": {"mail_domain": host.name, **PERMISSIVE, **root}})
    with apt_by_ipv6(lab) as proxy:
        host.write("/etc/apt/apt.conf.d/99proxy", f'Acquire::http::Proxy "{proxy}";\n')
        lab.salt_ssh(host.name, "state.apply", "chatmail")
    yield host
    lab.layout.known_hosts.write_text(known)
    lab.remove(host.name)


@pytest.fixture
def frida(six_host: Host) -> User:
    """A fresh address on the relay that has IPv6 alone."""
    return new_user(Relay(six_host.name, str(six_host.ipv6)))


def test_a_host_without_ipv4_is_a_relay_and_well(lab, six_host):
    assert "198.18." not in six_host.run(["ip", "-4", "address"]).stdout
    assert six_host.run(["systemctl", "--failed", "--plain", "--no-legend"]).stdout == ""
    assert lab.salt_ssh(six_host.name, "chatmail_dns.check")["report"]
    found = lab.salt_ssh(six_host.name, "chatmail_relay.status")
    assert found["findings"] == []


@pytest.mark.parametrize("way", ["smtp", "https"])
def test_mail_travels_both_ways_between_it_and_a_relay_with_both(six_host, one_host, alice, frida, way):
    for source, target, sender, reader in ((six_host, one_host, frida, alice), (one_host, six_host, alice, frida)):
        if way == "https":
            until_known(source, target.name)
        else:
            # What nobody has written to goes by SMTP.
            source.run(["systemctl", "restart", "chatmail-transport"])
        assert submit(sender, reader.address, messages.encrypted(sender.address, reader.address)) is None
        assert len(inbox(reader)) == 1
        assert ways(source, reader.address) == [{"smtp": "either/smtp", "https": "https/lmtp"}[way]]
