"""Hosts as providers hand them over: with systemd-resolved, DHCP, no IPv6, or name servers that do not answer."""

import json
from collections.abc import Iterator

import pytest

from test.integration.conftest import PERMISSIVE
from test.lab import Host
from test.lab.layout import NAME_SERVER_NUMBER
from test.relay.delivery import Relay, new_user
from test.support import messages
from test.support.mailing import inbox, submit

RESOLV_CONF = "/etc/resolv.conf"
# Looks up a name each 50 ms until it is stopped, then says how often, and what went wrong.
LOOKUPS = """
import json, signal, socket, time
count, failures, stopped = 0, [], []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
while not stopped:
    count += 1
    try:
        socket.getaddrinfo("ns.test.", None, socket.AF_INET)
    except OSError as error:
        failures.append(f"{time.ctime()}: {error}")
    time.sleep(0.05)
with open("/run/lookups.json", "w") as file:
    json.dump({"count": count, "failures": failures}, file)
"""


def name_server(lab) -> str:
    return str(lab.layout.ipv4(NAME_SERVER_NUMBER))


def apt_install(host: Host, *packages: str) -> None:
    host.run(["apt-get", "-qq", "update"], timeout=120)
    host.run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qqy", "install", *packages], timeout=300)


@pytest.fixture(scope="module")
def cloud_host(lab, applied) -> Iterator[tuple[Host, dict]]:
    """A relay on a host that had systemd-resolved, and has a DHCP client and no IPv6; with what look-ups during its
    apply have seen."""
    host = lab.add("_cloud.test")
    host.write("/etc/systemd/resolved.conf.d/lab.conf", f"[Resolve]\nDNS={name_server(lab)}\n")
    apt_install(host, "systemd-resolved", "isc-dhcp-client")
    assert "systemd/resolve" in host.run(["readlink", RESOLV_CONF]).stdout
    host.run(["sh", "-c", "for i in all default; do echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; done"])
    lab.withdraw(f"{host.name}.", "AAAA")
    host.write("/run/lookups.py", LOOKUPS)
    host.run(["systemd-run", "--quiet", "--unit=lookups", "python3", "/run/lookups.py"])
    lab.pillar(host.name, {"chatmail": {"mail_domain": host.name, "disable_ipv6": True, **PERMISSIVE}})
    lab.salt_ssh(host.name, "state.apply", "chatmail")
    host.run(["systemctl", "stop", "lookups"])
    yield host, json.loads(host.read("/run/lookups.json"))
    lab.remove(host.name)


def test_names_are_found_at_every_moment_of_the_apply(cloud_host):
    host, lookups = cloud_host
    assert lookups["count"] > 100
    assert lookups["failures"] == []
    assert host.run(["systemctl", "is-enabled", "systemd-resolved"], check=False).stdout == "masked\n"
    holders = host.run(["ss", "-Hlntup", "sport", "=", ":53"]).stdout
    assert '"unbound"' in holders and "resolve" not in holders


def test_all_daemons_do_without_ipv6(cloud_host):
    host, _ = cloud_host
    assert "inet6" not in host.run(["ip", "address"]).stdout
    assert host.run(["systemctl", "--failed", "--plain", "--no-legend"]).stdout == ""
    # sshd has been there before.
    listeners = host.run(["ss", "-Hln6tup"]).stdout.splitlines()
    assert [line for line in listeners if '"sshd"' not in line] == []


def test_mail_travels_both_ways_without_ipv6(cloud_host, alice):
    host, _ = cloud_host
    dave = new_user(Relay(host.name, str(host.ipv4)))
    for writer, reader in ((dave, alice), (alice, dave)):
        assert submit(writer, reader.address, messages.encrypted(writer.address, reader.address)) is None
        assert len(inbox(reader)) == 1


def test_dhcp_does_not_bring_other_name_servers(lab, cloud_host):
    host, _ = cloud_host
    before = host.read(RESOLV_CONF)
    # As DHCP servers send it at boot and later.
    for reason in ("BOUND", "RENEW"):
        offer = [f"reason={reason}", "interface=lo", "new_ip_address=127.0.0.9", "new_domain_name_servers=192.0.2.53"]
        host.run(["env", *offer, "/sbin/dhclient-script"], check=False)
        assert host.read(RESOLV_CONF) == before


def test_the_second_apply_changes_nothing(lab, cloud_host):
    host, _ = cloud_host
    states = lab.salt_ssh(host.name, "state.apply", "chatmail")
    assert [name for name, state in states.items() if state["changes"]] == []


def test_a_fallback_is_asked_where_no_name_server_answers(lab, bare_host):
    """Nothing is installed yet, and nothing could be: the link of resolvconf leads nowhere."""
    apt_install(bare_host, "resolvconf")
    bare_host.run(["rm", "-rf", "/run/resolvconf"])
    assert bare_host.run(["getent", "hosts", "ns.test"], check=False).returncode != 0
    settings = {"mail_domain": bare_host.name, "fallback_resolver": name_server(lab), **PERMISSIVE}
    lab.pillar(bare_host.name, {"chatmail": settings})
    states = lab.salt_ssh(bare_host.name, "state.apply", "chatmail.unbound")
    steps = [state["__id__"] for state in sorted(states.values(), key=lambda state: state["__run_num__"])]
    assert steps.index("unbound-bootstrap") < min(steps.index(name) for name in steps if name.endswith("-packages"))
    assert [state["comment"] for state in states.values() if state["__id__"] == "unbound-bootstrap"] == [
        f"Its name servers do not answer; the host asks {name_server(lab)} now."
    ]
    lines = bare_host.read(RESOLV_CONF).splitlines()
    assert lines[1:] == ["nameserver 127.0.0.1", f"nameserver {name_server(lab)}"]
    assert bare_host.run(["getent", "hosts", "ns.test"]).stdout
    assert bare_host.run(["test", "-L", RESOLV_CONF], check=False).returncode == 1
    assert "resolvconf" not in bare_host.run(["dpkg", "--get-selections"]).stdout
