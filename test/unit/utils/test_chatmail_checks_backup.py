"""A backup that fails, is old, or cannot be read is a warning; none is none."""

import pytest

from test.support.relays import judged

DAY, REPOSITORY = 86400, {"backup_repository": "/srv/backup"}
GOOD = {"ago": 100, "problem": ""}


@pytest.mark.parametrize(
    "facts, kind",
    [
        ({}, "backup-save-never"),
        ({"save": GOOD | {"ago": 2 * DAY}}, "backup-save-overdue"),
        ({"save": {"ago": None, "problem": "Fatal: no network"}}, "backup-save-failed"),
        ({"save": {"ago": 2 * DAY, "problem": "Fatal: no network"}}, "backup-save-failed"),
        (
            {"save": GOOD, "check": {"ago": 3 * DAY, "problem": "Fatal: repository contains errors"}},
            "backup-check-failed",
        ),
        ({"save": GOOD, "check": GOOD | {"ago": 40 * DAY}}, "backup-check-overdue"),
    ],
)
def test_what_is_wrong_is_a_warning_that_says_what_to_do(facts, kind):
    finding = judged("backup", facts, **REPOSITORY)
    assert (finding.level, finding.kind) == ("warning", kind)
    assert "salt-ssh relay chatmail_backup." in finding.do


@pytest.mark.parametrize("facts", [{"save": GOOD}, {"save": GOOD, "check": GOOD | {"ago": 20 * DAY}}])
def test_a_backup_of_last_night_is_well(facts):
    assert judged("backup", facts, **REPOSITORY) is None


def test_without_a_repository_nothing_is_wrong():
    assert judged("backup", {}) is None
