"""TURN: credentials from the socket are taken until they end; no way leads into the host or its networks."""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Iterator

import pytest

from test.integration.conftest import PERMISSIVE
from test.lab import Host, Lab
from test.support.mailing import metadata_entry

# What one call takes, and no more; behind an address that leads to no host (RFC 5737).
NARROW = range(50000, 50010)
PUBLIC_ADDRESS = "192.0.2.7"

SOCKET = "/run/chatmail-turn/turn.socket"
ASK = f"""
import socket
with socket.socket(socket.AF_UNIX) as client:
    client.connect({SOCKET!r})
    print(client.makefile().read(), end="")
"""


def credentials(host) -> tuple[str, str]:
    """User name and password, as chatmail-metadata asks for them."""
    line = host.run(["runuser", "-u", "vmail", "--", "python3", "-c", ASK]).stdout
    return re.fullmatch(r"([0-9]+):(\S+)\n", line).groups()


def minted(host, expiry: float) -> tuple[str, str]:
    """A credential of the host's secret that ends at another time."""
    user = str(int(expiry))
    secret = host.read("/etc/chatmail/turn-secret").strip().encode()
    return user, base64.b64encode(hmac.new(secret, user.encode(), hashlib.sha1).digest()).decode()


def relayed(host, user: str, password: str, *arguments: str) -> str:
    """What Debian's TURN client tells of five messages to ``arguments``, else from one allocation to another."""
    argv = ["timeout", "20", "turnutils_uclient", "-v", "-m", "1", "-n", "5", "-u", user, "-w", password]
    done = host.run([*argv, *(arguments or ["-y"]), str(host.ipv4)], check=False)
    return done.stdout + done.stderr


def allocated(output: str) -> list[tuple[str, int]]:
    """The addresses and ports that the server gave to the client."""
    return [(address, int(port)) for address, port in re.findall(r"Received relay addr: (\S+):(\d+)", output)]


@pytest.fixture
def behind_nat(lab: Lab, two_host: Host) -> Iterator[Host]:
    """The second relay behind address translation, with a few ports open."""
    usual = {"mail_domain": two_host.name, **PERMISSIVE}
    narrow = {"turn_min_port": NARROW[0], "turn_max_port": NARROW[-1], "public_addresses": [PUBLIC_ADDRESS]}
    lab.pillar(two_host.name, {"chatmail": usual | narrow})
    lab.salt_ssh(two_host.name, "state.apply", "chatmail.turn")
    yield two_host
    lab.pillar(two_host.name, {"chatmail": usual})
    lab.salt_ssh(two_host.name, "state.apply", "chatmail.turn")


def test_what_a_client_is_told_lasts_five_days_and_gets_allocations_in_the_range(one_host, alice):
    with alice.imap() as client:
        told = metadata_entry(client, "", "/shared/vendor/deltachat/turn")
    host, port, user, password = told.split(":", 3)
    assert (host, port) == (one_host.name, "3478")
    assert 0 <= time.time() + 5 * 86400 - int(user) < 10
    output = relayed(one_host, user, password)
    assert "Total lost packets 0 " in output
    assert {address for address, _ in allocated(output)} == {str(one_host.ipv4)}
    assert all(49152 <= port <= 65535 for _, port in allocated(output))


def test_behind_address_translation_clients_are_told_the_public_address_and_open_ports(behind_nat):
    output = relayed(behind_nat, *credentials(behind_nat), "-e", str(behind_nat.ipv4), "-r", "3478")
    assert allocated(output)
    assert {address for address, _ in allocated(output)} == {PUBLIC_ADDRESS}
    assert {port for _, port in allocated(output)} <= set(NARROW)


def test_a_credential_that_has_ended_is_refused(one_host):
    assert "Total lost packets 0 " in relayed(one_host, *minted(one_host, time.time() + 60))
    refused = relayed(one_host, *minted(one_host, time.time() - 60))
    assert "Total lost packets" not in refused
    assert "401" in refused or "Cannot complete Allocation" in refused


def test_a_credential_of_another_secret_is_refused(one_host, two_host):
    assert "Total lost packets" not in relayed(one_host, *credentials(two_host))


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"])
def test_loopback_private_and_link_local_peers_are_refused(one_host, peer):
    assert "403 (Forbidden IP)" in relayed(one_host, *credentials(one_host), "-e", peer)


def test_the_secret_is_roots_and_in_nobodys_view(one_host, applied):
    assert one_host.run(["stat", "--format=%U %a", "/etc/chatmail/turn-secret"]).stdout == "root 600\n"
    secret = one_host.read("/etc/chatmail/turn-secret").strip()
    assert secret not in str(applied["_one.test"].states)
    for words in (
        ["grep", "-rlF", secret, "/etc", "/var", "/tmp"],
        ["sh", "-c", f"cat /proc/*/cmdline | grep -aF {secret}"],
    ):
        found = one_host.run(words, check=False, timeout=120).stdout.replace("/etc/chatmail/turn-secret\n", "")
        assert "sh\0-c" in found or found == ""


def test_only_the_mail_user_may_ask(one_host):
    assert one_host.run(["runuser", "-u", "nobody", "--", "python3", "-c", ASK], check=False).returncode != 0


def test_neither_clients_nor_whom_they_call_are_in_the_journal(one_host):
    begun = int(time.time())
    for user, password in (credentials(one_host), minted(one_host, time.time() - 60)):
        relayed(one_host, user, password, "-e", "10.1.2.3")
    relayed(one_host, *credentials(one_host))
    journal = ["journalctl", "_SYSTEMD_UNIT=coturn.service", f"--since=@{begun}", "-o", "cat", "--quiet"]
    assert one_host.run(journal).stdout == ""


def test_it_listens_by_udp_alone_and_within_its_range(one_host):
    listeners = one_host.run(["ss", "-Hlntup"]).stdout.splitlines()
    mine = [line.split() for line in listeners if "turnserver" in line]
    assert {words[0] for words in mine} == {"udp"}
    ports = {int(words[4].rpartition(":")[2]) for words in mine}
    # Allocations of the tests before may still be there.
    assert ports & set(range(49152)) == {3478}
