"""What an upgrade may change, and what makes a relay worse than it was."""

import pytest

from tools.apply_result import parse_return
from tools.upgrade import paths, units, worse


def finding(check: str, level: str, kind: str = "failed", unit: str = "") -> dict:
    return {"check": check, "level": level, "kind": kind, "what": "", "do": "", **({"unit": unit} if unit else {})}


POSTFIX = finding("services", "error", unit="postfix.service")
DOVECOT = finding("services", "error", unit="dovecot.service")
COTURN = finding("services", "warning", unit="coturn.service")
LOAD = finding("memory", "warning", "load-high")
PROBE = finding("probe", "error", "probe-failed")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ([], [], []),
        ([POSTFIX], [], []),
        ([POSTFIX], [POSTFIX], []),
        ([POSTFIX], [DOVECOT], [DOVECOT]),
        ([], [COTURN, LOAD], [COTURN]),
        ([LOAD], [LOAD, PROBE], [PROBE]),
        ([PROBE], [PROBE, PROBE], [PROBE]),
    ],
)
def test_a_relay_is_worse_by_what_is_new(before, after, found):
    assert worse(before, after) == found


def test_what_states_may_change_is_known_by_their_names():
    names = [
        "file_|-postfix-main-cf_|-/etc/postfix/main.cf_|-managed",
        "file_|-chatmaild-source_|-/usr/local/lib/chatmaild/chatmaild_|-recurse",
        "file_|-system-mailboxes_|-/home/vmail/mail_|-directory",
        "chatmail_dkim_|-opendkim-key_|-/etc/dkimkeys_|-key_present",
        "chatmail_website_|-website-built_|-/var/www/chatmail_|-built",
        "service_|-postfix-service_|-postfix_|-running",
        "service_|-backup-timers_|-chatmail-backup.timer_|-dead",
    ]
    states = parse_return("relay", {"return": {name: {"result": None} for name in names}}, 0).states
    assert paths(states) == ["/etc/postfix/main.cf", "/usr/local/lib/chatmaild/chatmaild", "/var/www/chatmail"]
    assert units(states) == ["chatmail-backup.timer", "postfix"]
