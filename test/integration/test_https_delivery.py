"""Mail between two relays over HTTPS and SMTP: either is enough, none is lost, none comes twice."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from test.lab import Host
from test.relay.delivery import BURST, User, new_user
from test.support import messages
from test.support.mail_clients import submission
from test.support.mailing import attempt, inbox, kept_connections, submit
from test.support.waiting import wait_until

# `MESSAGES=2000` for the figure that we promise.
MESSAGES = int(os.environ.get("MESSAGES", "100"))
READERS = 5
DAEMON = "chatmail-transport"
FALLBACK = "chatmail-transport-fallback"
ROUTES = "socketmap:inet:127.0.0.1:8464:route"


def nft(host: Host, rules: str) -> None:
    """Run nft(8) of this machine in the network of a host, which has none."""
    argv = ["nsenter", f"--target={host.init().pid}", "--net", "nft", "-f", "-"]
    subprocess.run(argv, input=rules, text=True, check=True, timeout=20)


@contextlib.contextmanager
def closed(host: Host, *ports: int) -> Iterator[None]:
    """Let nobody reach these ports of a host, nor the host those of others: packets vanish, also of old connections."""
    numbers = ", ".join(map(str, ports))
    rules = "".join(
        f"chain {hook} {{ type filter hook {hook} priority filter; tcp dport {{ {numbers} }} drop; "
        f"tcp sport {{ {numbers} }} drop; }}\n"
        for hook in ("input", "output")
    )
    nft(host, f"table inet closed {{\n{rules}}}\n")
    try:
        yield
    finally:
        nft(host, "delete table inet closed\n")


@pytest.fixture(autouse=True)
def _nothing_is_known(one_host, two_host) -> None:
    """Each test begins with daemons that have met nobody, and with no connection of SMTP."""
    for host in (one_host, two_host):
        # What has been started too often is not started.
        host.run(["systemctl", "reset-failed", DAEMON])
        host.run(["systemctl", "restart", DAEMON])
        host.run(["postfix", "reload"])
    assert not kept_connections(one_host, two_host)


def send(sender: User, *recipients: str) -> None:
    to = list(recipients)
    assert submit(sender, to, messages.encrypted(sender.address, to[0])) is None


def ways(host: Host, recipient: str) -> list[str]:
    """By which of Postfix's clients a recipient's messages were sent."""
    lines = host.run(["journalctl", "--no-pager", "--grep", f"to=<{recipient}>.*status=sent"]).stdout.splitlines()
    return [line.partition(" postfix/")[2].partition("[")[0] for line in lines if " postfix/" in line]


def waiting(host: Host) -> list[str]:
    """The reasons for which recipients wait in a host's queue."""
    entries = map(json.loads, host.run(["postqueue", "-j"]).stdout.splitlines())
    return [one.get("delay_reason", "") for entry in entries for one in entry["recipients"]]


def until_known(host: Host, domain: str) -> None:
    """Wait until a host knows that a domain takes mail over HTTPS; it looks when it is first asked for it."""
    query = ["postmap", "-q", f"someone@{domain}", ROUTES]
    wait_until(lambda: host.run(query).stdout.startswith("https:"), "it is not found out")


def test_who_takes_mail_over_https_gets_it_by_that(one_host, two_host, alice, carol):
    for source, target, sender, reader in ((one_host, two_host, alice, carol), (two_host, one_host, carol, alice)):
        until_known(source, target.name)
        send(sender, reader.address)
        inbox(reader)
        assert ways(source, reader.address) == ["https/lmtp"]


def test_with_port_25_closed_mail_goes_both_ways_at_once(one_host, two_host, alice, carol):
    with closed(two_host, 25):
        send(alice, carol.address)
        send(carol, alice.address)
        inbox(carol, timeout_s=60)
        inbox(alice, timeout_s=60)
        # It has fallen back within the attempt; from now on nothing waits.
        assert ways(one_host, carol.address) == ["either/smtp"]
        for number in (2, 3):
            send(alice, carol.address)
            send(carol, alice.address)
            inbox(carol, number)
            inbox(alice, number)
        assert ways(one_host, carol.address)[1:] == ["https/lmtp"] * 2
        assert ways(two_host, alice.address)[1:] == ["https/lmtp"] * 2


def test_with_port_443_closed_mail_goes_by_smtp(one_host, two_host, alice, carol):
    with closed(two_host, 443):
        for number in (1, 2):
            send(alice, carol.address)
            send(carol, alice.address)
            inbox(carol, number)
            inbox(alice, number)
    assert not {"https/lmtp"} & {*ways(one_host, carol.address), *ways(two_host, alice.address)}


def test_with_both_closed_mail_waits_and_arrives_once(one_host, two_host, alice, carol):
    until_known(one_host, two_host.name)
    with closed(two_host, 25, 443):
        for _ in range(3):
            send(alice, carol.address)
        # Before the connection that was there is given up, and after.
        wait_until(lambda: len([reason for reason in waiting(one_host) if reason]) == 3, "not all wait", 180)
        assert all("two.test" in reason for reason in waiting(one_host))
    one_host.run(["postqueue", "-f"])
    inbox(carol, 3, timeout_s=90)
    wait_until(lambda: waiting(one_host) == [], "something is left in the queue")
    assert len(inbox(carol)) == 3


def test_a_refusal_reaches_the_sender(lab, one_host, alice, two_host):
    domain = "_elsewhere.test"
    lab.publish(domain, "MX", [f"10 {two_host.name}."])
    try:
        until_known(one_host, domain)
        send(alice, f"someone@{domain}")
        (bounce,) = inbox(alice)
    finally:
        lab.withdraw(domain, "MX")
    # Folded as a header field is.
    assert (
        f"550 5.7.1 <someone@{domain}>: Relay access denied (HTTPS, {two_host.name})"
        in b" ".join(bounce.split()).decode()
    )


def test_a_kill_of_the_daemon_loses_nothing(one_host, two_host, alice, two):
    """Twice is what SMTP has too, where an answer is lost: at most one for each connection of each kill."""
    readers = [new_user(two) for _ in range(READERS)]
    until_known(one_host, two_host.name)
    kills = 0
    per_reader = MESSAGES // READERS
    for _ in range(per_reader * READERS // BURST):
        sender = new_user(alice.relay)
        with submission(sender.relay.address, sender.address, sender.password) as client:
            for number in range(BURST):
                recipient = readers[number % READERS].address
                assert attempt(client, sender.address, recipient, messages.encrypted(sender.address, recipient)) is None
                if number == BURST // 2:
                    one_host.run(["systemctl", "reset-failed", DAEMON])
                    one_host.run(["systemctl", "kill", "--signal=KILL", DAEMON])
                    kills += 1

    def nothing_waits() -> bool:
        one_host.run(["postqueue", "-f"])
        return not waiting(one_host)

    wait_until(nothing_waits, "messages are left in the queue", 240)
    arrived = [len(inbox(reader, per_reader)) for reader in readers]
    assert min(arrived) >= per_reader
    assert sum(arrived) - MESSAGES <= 4 * kills


def test_a_daemon_that_hangs_is_started_again(one_host, alice, carol):
    """Postfix's queue manager waits for it."""
    restarts = ["systemctl", "show", "--property=NRestarts", "--value", DAEMON]
    before = one_host.run(restarts).stdout
    one_host.run(["systemctl", "kill", "--signal=STOP", DAEMON])
    wait_until(lambda: one_host.run(restarts).stdout != before, "it hangs")
    send(alice, carol.address)
    inbox(carol)


@contextlib.contextmanager
def changed(host: Host, unit: str, lines: str) -> Iterator[None]:
    """Let a service have other settings (systemd.service(5)) for a while."""
    drop_in = f"/run/systemd/system/{unit}.service.d/changed.conf"
    host.write(drop_in, f"[Service]\n{lines}")
    host.run(["systemctl", "daemon-reload"])
    try:
        yield
    finally:
        host.run(["rm", drop_in])
        host.run(["systemctl", "daemon-reload"])


def is_active(host: Host, unit: str) -> bool:
    return host.run(["systemctl", "is-active", unit], check=False).stdout == "active\n"


def test_a_daemon_that_crashes_at_each_start_holds_up_no_mail(lab, one_host, alice, bob, carol):
    """By itself Postfix would wait for it, a hundred seconds for each recipient elsewhere, with all mail."""
    with changed(one_host, DAEMON, "ExecStart=\nExecStart=/bin/false\n"):
        one_host.run(["systemctl", "restart", DAEMON], check=False)
        send(alice, carol.address)
        send(alice, bob.address)
        inbox(bob, timeout_s=60)
        wait_until(lambda: is_active(one_host, FALLBACK), "nobody takes its place", 60)
        send(alice, carol.address)
        one_host.run(["postqueue", "-f"])
        inbox(carol, 2, timeout_s=60)
        assert set(ways(one_host, carol.address)) == {"smtp"}
        known = lab.salt_ssh(one_host.name, "chatmail_relay.ways", "[other.test]")
        assert known == {"other.test": None}
    one_host.run(["systemctl", "restart", DAEMON])
    assert not is_active(one_host, FALLBACK)
    # When the fallback's time is over.
    with changed(one_host, FALLBACK, "Type=simple\nExecStart=\nExecStart=/bin/sh -c 'exit 75'\n"):
        one_host.run(["systemctl", "start", FALLBACK])
        wait_until(lambda: is_active(one_host, DAEMON), "it is not tried again")


def test_an_operator_is_told_which_way_a_domain_is_reached(lab, one_host, two_host):
    until_known(one_host, two_host.name)
    found = lab.salt_ssh(one_host.name, "chatmail_relay.reach", two_host.name)
    says = {line["check"]: line["says"] for line in found["checks"]}
    assert says["way"].startswith("by HTTPS: ")
    assert says["smtp"].startswith(f"{two_host.name} takes mail (TLSv1.3): 250 ")
    assert (says["https"], says["signature"]) == (f"{two_host.name} takes mail", "mail is signed")
    assert found["findings"] == []
    with closed(two_host, 25, 443):
        found = lab.salt_ssh(one_host.name, "chatmail_relay.reach", two_host.name)
    assert [(one["level"], one["kind"]) for one in found["findings"]] == [
        ("error", "no-way"),
        ("error", "smtp-connect"),
    ]
    (finding,) = lab.salt_ssh(one_host.name, "chatmail_relay.reach", "nowhere.test")["findings"]
    assert finding["kind"] == "no-mail-server"
