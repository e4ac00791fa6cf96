"""What checks make of a machine that is full, busy, late or old."""

import pytest

from chatmail_words import DAY_S
from test.support.relays import MIB, judged


def file_system(**more):
    one = {"path": "/", "free": 10**10, "total": 10**11, "free_inodes": 10**6, "inodes": 10**7, "read_only": False}
    return {"file_systems": [one | more], "mailboxes": "/", "wanted": 1024 * MIB}


@pytest.mark.parametrize(
    ("facts", "level", "what"),
    [
        ({}, None, ""),
        ({"free": 44 * MIB}, "error", "the disk is full: / has 44.0 M free"),
        ({"free_inodes": 9}, "error", "room for 9 files"),
        ({"free_inodes": 400_000}, "warning", "no address is created below 5 %"),
        ({"read_only": True}, "error", "read-only"),
        ({"free": 900 * MIB}, "warning", "no address is created below 1.0 G"),
        # btrfs counts no inodes.
        ({"free_inodes": 0, "inodes": 0}, None, ""),
    ],
)
def test_disks(facts, level, what):
    finding = judged("disk", file_system(**facts))
    assert (finding and finding.level) == level
    assert what in (finding.what if finding else "")


def test_a_clock_that_nobody_keeps_is_a_warning_but_for_containers():
    facts = {"ahead": 1, "synchronized": False, "container": False}
    assert judged("clock", facts).level == "warning"
    assert judged("clock", facts | {"container": True}) is None
    assert "5 min behind" in judged("clock", facts | {"ahead": -300}).what


PACKAGES = {
    "versions": {"postfix": "3.7.11-0+deb12u1"},
    "upgrades": 0,
    "security": [],
    "lists_age": 0,
    "old": [],
    "reboot": False,
    "kernel_gone": False,
}


@pytest.mark.parametrize(
    ("facts", "level", "do"),
    [
        ({}, None, ""),
        ({"upgrades": 2}, "note", "apt upgrade"),
        ({"upgrades": 2, "security": ["openssl"]}, "warning", "apt upgrade"),
        ({"lists_age": 8 * DAY_S}, "note", "apt update"),
        ({"old": ["nginx.service"]}, "warning", "systemctl restart nginx"),
        ({"kernel_gone": True}, "warning", "systemctl reboot"),
    ],
)
def test_packages(facts, level, do):
    finding = judged("packages", PACKAGES | facts)
    assert (finding and finding.level) == level
    assert do in (finding.do if finding else "")
