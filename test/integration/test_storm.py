"""`make storm` in short: kills, a crash of a host, and calamities, while mail flows; nothing is lost or refused."""

from collections.abc import Iterator

import pytest
from rich.console import Console

from test.integration.conftest import RELAYS
from test.lab import Host
from test.relay.delivery import Relay, new_user
from test.relay.steps import Steps
from test.storm import calamities, disorder
from test.storm.run import calamity, judge, kill_while_sending
from test.support import messages
from test.support.mailing import inbox, submit
from test.support.waiting import wait_until

SEED = 1
CALAMITY_S = 3


@pytest.fixture(scope="module")
def hosts(one_host, two_host):
    return [one_host, two_host]


@pytest.fixture(scope="module")
def own_file_system(hosts):
    with calamities.own_file_system(hosts[0]):
        yield


def properties(host: Host, *names: str) -> Iterator[tuple[str, list[str]]]:
    """The values of some properties of each of the relay's units."""
    units = disorder.units(host)
    shown = host.run(["systemctl", "show", *[f"--property={name}" for name in names], *units]).stdout
    for unit, block in zip(units, shown.split("\n\n"), strict=True):
        values = dict(line.split("=", 1) for line in block.splitlines() if line)
        yield unit, [values.get(name, "") for name in names]


def test_nothing_is_lost_while_daemons_are_killed_and_a_host_crashes(lab, hosts):
    outcome, kills = kill_while_sending(lab, hosts, Steps(Console()), count=120, crashes=1, seed=SEED, over_s=20)
    assert judge(outcome) == [], f"seed {SEED}, killed: {kills}"
    assert len(outcome.accepted) == 120
    assert kills["host"] == 1
    assert kills.total() > 3


@pytest.mark.parametrize("name", calamities.ALL)
def test_nothing_is_lost_or_refused_while_the_host_has(hosts, own_file_system, name):
    if name == "no memory" and not calamities.MEMORY.exists():
        pytest.skip("the machine has no cgroup hierarchy of its own for memory (version 1)")
    assert judge(calamity(name, hosts, 24, CALAMITY_S, hurry=True)) == []


def test_refusals_for_want_of_room_are_told_to_nobody_by_mail(hosts):
    # Each such message would take room itself. The journal begins with the crash, before the calamities.
    journal = hosts[0].run(["journalctl", "--output=cat"]).stdout
    assert "Insufficient system storage" in journal
    assert "orig_to=<postmaster>" not in journal


@pytest.mark.parametrize("number", [0, 1], ids=RELAYS)
def test_mail_waits_while_its_mailbox_cannot_grow(hosts, number):
    host = hosts[number]
    relay = Relay(host.name, str(host.ipv4))
    writer, reader = new_user(relay), new_user(relay)
    message = messages.encrypted(writer.address, reader.address, payload=messages.encrypted_payload(100_000))
    with calamities.full_mailbox(host, f"/home/vmail/mail/{host.name}/{reader.address}"):
        assert submit(writer, reader.address, message) is None
        wait_until(lambda: "delay_reason" in host.run(["postqueue", "-j"], check=False).stdout, "it is not deferred")
    disorder.flush([host])
    assert len(inbox(reader)) == 1
    assert inbox(writer, minimum=0) == []


def test_systemd_starts_each_daemon_again_and_again(hosts):
    for host in hosts:
        for unit, (restart, pause, limit) in properties(host, "Restart", "RestartUSec", "StartLimitIntervalUSec"):
            assert restart in ("always", "on-failure"), f"{host.name}: {unit}"
            assert pause == "1s", f"{host.name}: {unit}"
            # Where it crashes at each start, another answers in its place for minutes (test_https_delivery).
            assert limit == ("30s" if unit == "chatmail-transport.service" else "0"), f"{host.name}: {unit}"


def test_systemd_does_not_wait_long_for_the_pid_file_of_a_process_that_was_killed(hosts):
    for host in hosts:
        for unit, (path, timeout) in properties(host, "PIDFile", "TimeoutStartUSec"):
            assert not path or timeout in ("10s", "15s"), f"{host.name}: {unit}"
