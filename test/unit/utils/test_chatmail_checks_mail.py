"""What checks make of mail that waits, a trial message, and limits."""

import re

import pytest

from test.support.relays import judged


def waiting(destination, reason="refused", deferred=1, since=0.0):
    counts = {"messages": deferred, "deferred": deferred, "since": since}
    return {"destination": destination, **counts, "way": "SMTP", "reason": reason}


@pytest.mark.parametrize(
    ("lines", "level", "do"),
    [
        ([], None, ""),
        ([waiting("a.test", since=900.0)], None, ""),
        ([waiting("a.test", since=900.0, deferred=100)], "warning", "salt-ssh relay chatmail_queue.retry a.test"),
        ([waiting("a.test", since=-8000.0)], "warning", "salt-ssh relay chatmail_queue.drop a.test"),
        ([waiting("chat.test", since=900.0)], "error", "journalctl -u dovecot"),
        ([waiting(f"{n}.test", "connect: Connection timed out") for n in range(3)], "error", "port 25"),
    ],
)
def test_queues(lines, level, do):
    finding = judged("queue", {"lines": lines, "now": 1000.0})
    assert (finding and finding.level) == level
    assert do in (finding.do if finding else "")


@pytest.mark.parametrize(
    ("facts", "level", "what"),
    [
        ({"seconds": 0.1, "signed": True}, None, ""),
        ({"seconds": 3.0, "signed": True}, "warning", "took 3.0 s"),
        ({"seconds": 0.1, "signed": False}, "error", "was not signed"),
        ({"stage": "imap", "problem": "[AUTHENTICATIONFAILED]"}, "error", "cannot be read: [AUTHENTICATIONFAILED]"),
        ({"stage": "submission", "problem": "451 4.7.1"}, "error", "cannot be sent: 451 4.7.1"),
        ({"stage": "delivery", "problem": "no answer"}, "error", "did not arrive"),
    ],
)
def test_probes(facts, level, what):
    finding = judged("probe", facts)
    assert (finding and finding.level) == level
    assert what in (finding.what if finding else "")


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"ago": 3600, "result": "success"}, None),
        ({"ago": None, "result": "success"}, "never removed"),
        ({"ago": 3600, "result": "exit-code"}, r"has failed \(exit-code\)"),
    ],
)
def test_expiry(facts, what):
    finding = judged("expiry", facts)
    assert what is None or re.search(what, finding.what)
    assert bool(finding) == bool(what)


def test_the_kernel_runs_out_of_inotify_instances():
    facts = {"imap": 900, "smtpd": 1, "inotify_used": 900, "inotify_limit": 1000}
    assert "900 of 1000 inotify instances are in use" in judged("clients", facts, max_imap_connections=5000).what


def test_limits_of_connections_are_told_before_they_are_reached():
    facts = {"imap": 10, "smtpd": 850, "inotify_used": 10, "inotify_limit": 65535}
    assert "max_smtp_connections" in judged("clients", facts).do
