"""Mailboxes empty themselves: by the clock, and when they fill up; index files in memory may go at any time."""

import http.client
import re
from collections.abc import Iterator

import pytest

from test.integration.conftest import PERMISSIVE
from test.lab import Host, Lab
from test.relay.delivery import Relay, User, new_user
from test.support import messages
from test.support.mail_clients import unchecked_tls
from test.support.mailing import inbox, submit
from test.support.waiting import wait_until

DAY = 86400
MEGABYTE = 10**6
QUOTA_KB = 10 * 1024
INDEXES = "/dev/shm/chatmail"

# Puts one message file where Dovecot finds it, delivered so many days ago: path of the mailbox, days, bytes.
STORE = """
import os, sys, time
mailbox, days, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
seconds = int(time.time()) - days * 86400
path = f"{mailbox}/cur/{seconds}.M1P{days}.test,S={size},W={size}:2,S"
with open(path, "w", newline="") as file:
    file.write(f"Subject: {days}\\r\\n\\r\\n".ljust(size, "x"))
os.utime(path, (seconds, seconds))
"""


@pytest.fixture(scope="module")
def small(lab: Lab, one, one_host: Host) -> Iterator[Host]:
    """The first relay with mailboxes of 10 MB, index files in memory and a page of metrics."""
    usual = {"mail_domain": one.domain, **PERMISSIVE}
    changed = {"max_mailbox_size": "10M", "tmpfs_index": True, "metrics_page": True}
    lab.pillar(one.domain, {"chatmail": usual | changed})
    lab.salt_ssh(one.domain, "state.apply", "chatmail")
    again = lab.salt_ssh(one.domain, "state.apply", "chatmail")
    assert not [state for state in again.values() if state["changes"]]
    yield one_host
    lab.pillar(one.domain, {"chatmail": usual})
    lab.salt_ssh(one.domain, "state.apply", "chatmail")
    assert metrics_page(one).status == 404


def metrics_page(relay: Relay) -> http.client.HTTPResponse:
    client = http.client.HTTPSConnection(relay.address, context=unchecked_tls(), timeout=20)
    client.request("GET", "/metrics", headers={"Host": relay.domain})
    return client.getresponse()


def mailbox_of(user: User) -> str:
    return f"/home/vmail/mail/{user.relay.domain}/{user.address}"


def store(host: Host, user: User, days: int, size: int) -> None:
    host.run(["runuser", "-u", "vmail", "--", "python3", "-c", STORE, mailbox_of(user), str(days), str(size)])


def stored_days(host: Host, user: User) -> list[int]:
    """The ages of the messages that `store` put into the mailbox and that are still there."""
    names = host.run(["ls", f"{mailbox_of(user)}/cur"]).stdout
    return sorted(int(days) for days in re.findall(r"M1P(\d+)\.test", names))


def used_kb(user: User) -> tuple[int, int]:
    """What the IMAP server says of the quota: used and allowed, in KB (RFC 9208)."""
    with user.imap() as client:
        responses = client.command("GETQUOTAROOT INBOX")
    (figures,) = [match for response in responses if (match := re.search(rb"STORAGE (\d+) (\d+)", response.line))]
    return int(figures[1]), int(figures[2])


def send_encrypted(sender: User, recipient: User, size: int = 2000) -> None:
    payload = messages.encrypted_payload(size)
    message = messages.encrypted(sender.address, recipient.address, payload=payload)
    assert submit(sender, recipient.address, message) is None


def test_the_timers_wait(one_host):
    timers = one_host.run(["systemctl", "list-timers", "--no-legend", "chatmail-*"]).stdout
    assert "chatmail-expire.timer" in timers
    assert "chatmail-fsreport.timer" in timers


def test_a_mailbox_that_fills_up_loses_its_oldest_mail(small, alice, bob):
    send_encrypted(alice, bob)
    inbox(bob)
    for days in (9, 8, 7):
        store(small, bob, days, 2 * MEGABYTE)
    small.run(["rm", f"{mailbox_of(bob)}/maildirsize"])
    assert used_kb(bob)[0] > 3 * 2 * MEGABYTE // 1024
    send_encrypted(alice, bob, 1_500_000)  # two thirds of what it takes in base64: above 75 %
    wait_until(lambda: 9 not in stored_days(small, bob))
    assert stored_days(small, bob) == [7, 8]
    assert len(inbox(bob, minimum=4)) == 4
    used, allowed = used_kb(bob)
    assert allowed == QUOTA_KB
    assert 5500 < used < QUOTA_KB * 70 // 100
    assert f"quota-expire: removed 1 message(s) from {bob.address}" in small.run(["journalctl", "-o", "cat"]).stdout


def test_expire_runs_in_its_sandbox_over_real_mailboxes(small, one, alice, bob):
    unused = new_user(one)
    small.run(["touch", "-d", "91 days ago", f"{mailbox_of(unused)}/password"])
    for days in (21, 19, 3):
        store(small, bob, days, MEGABYTE)
    send_encrypted(alice, bob)
    assert len(inbox(bob, minimum=4)) == 4
    # From root's own directory, which is not for vmail.
    small.run(["sh", "-c", "cd /root && runuser -u vmail -- /usr/local/bin/chatmail-expire -v"])
    small.run(["sh", "-c", "cd /root && runuser -u vmail -- /usr/local/bin/chatmail-fsreport"])
    assert stored_days(small, bob) == [3, 19, 21]
    small.run(["systemctl", "start", "chatmail-expire.service"])
    assert stored_days(small, bob) == [3]  # the one of 19 days was large and seen
    assert len(inbox(bob, minimum=2)) == 2
    assert MEGABYTE // 1024 <= used_kb(bob)[0] < 2 * MEGABYTE // 1024
    assert small.run(["ls", mailbox_of(unused)], check=False).returncode
    assert small.run(["ls", f"{INDEXES}/{unused.address}"], check=False).returncode
    send_encrypted(alice, bob)
    assert len(inbox(bob, minimum=3)) == 3


def test_index_files_live_in_memory_alone_and_may_be_lost(small, alice, bob):
    send_encrypted(alice, bob)
    inbox(bob)
    assert small.run(["stat", "-c", "%U:%G %a", INDEXES]).stdout.strip() == "vmail:vmail 700"
    assert "dovecot.index" in small.run(["find", f"{INDEXES}/{bob.address}"]).stdout
    assert "dovecot.index.log" not in small.run(["ls", mailbox_of(bob)]).stdout
    small.run(["systemctl", "stop", "dovecot"])
    small.run(["rm", "-r", INDEXES])
    small.run(["systemctl", "start", "dovecot"])
    send_encrypted(alice, bob)
    assert len(inbox(bob, minimum=2)) == 2
    assert small.run(["stat", "-c", "%U:%G %a", INDEXES]).stdout.strip() == "vmail:vmail 700"
    small.run(["rm", "-r", INDEXES])  # while Dovecot runs
    send_encrypted(alice, bob)
    assert len(inbox(bob, minimum=3)) == 3


def test_a_full_memory_file_system_stops_no_mail(small, alice, bob):
    send_encrypted(alice, bob)
    inbox(bob)
    small.run(["systemctl", "stop", "dovecot"])
    small.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=0700,uid=vmail,gid=vmail", "full", INDEXES])
    try:
        small.run(["sh", "-c", f"dd if=/dev/zero of={INDEXES}/filler bs=4k 2>/dev/null || true"])
        small.run(["systemctl", "start", "dovecot"])
        send_encrypted(alice, bob)
        assert len(inbox(bob, minimum=2)) == 2
    finally:
        small.run(["systemctl", "stop", "dovecot"])
        small.run(["umount", INDEXES])
        small.run(["systemctl", "start", "dovecot"])


def test_reports_come_from_the_sandbox(one, small, alice):
    small.run(["systemctl", "start", "chatmail-fsreport.service", "chatmail-metrics.service"])
    assert "addresses: " in small.run(["journalctl", "-o", "cat", "-u", "chatmail-fsreport"]).stdout
    page = metrics_page(one).read().decode()
    assert int(re.search(r"^accounts (\d+)$", page, re.MULTILINE)[1]) >= 1
    assert not small.run(["systemctl", "list-units", "--failed", "--no-legend", "chatmail-*"]).stdout
