"""What is reported of the mailboxes."""

import itertools
import os
import stat
import time

import pytest

from chatmaild import fsreport
from chatmaild.config import read_config
from chatmaild.fsreport import Report, make_report, short
from chatmaild.mailboxes import mailbox
from chatmaild.mailboxes.mailbox import DAY

LONG_AGO = 50  # days


@pytest.fixture
def config(write_config, tmp_path, monkeypatch):
    monkeypatch.setattr(mailbox, "INDEX_DIR", tmp_path / "indexes")
    return read_config(write_config(), fsreport.Settings)


def create(config, address, days=LONG_AGO):
    box = config.mailbox(address)
    box.create("hash")
    box.enforce_e2ee_path.unlink()
    seconds = time.time() - days * DAY
    os.utime(box.password_path, (seconds, seconds))
    for name, size in {"cur/msg1": 500, "new/msg2": 600}.items():
        (box.path / name).parent.mkdir()
        (box.path / name).write_bytes(b"x" * size)
    return box


def report_of(config, **options):
    report = Report(time.time(), **options)
    assert make_report(config, report) == 0
    return report


@pytest.mark.parametrize(("mdir", "total"), [(None, 1100), ("cur", 500), ("new", 600), ("tmp", 0)])
def test_the_sum_of_message_sizes(config, mdir, total):
    create(config, "user12345@chat.example.org")
    assert report_of(config, mdir=mdir).message_sums[0] == total
    assert report_of(config, mdir=mdir, min_login_age=LONG_AGO - 1).message_sums[0] == total
    assert report_of(config, mdir=mdir, min_login_age=LONG_AGO + 1).message_sums[0] == 0


def test_thresholds_are_cumulative(config):
    box = create(config, "user12345@chat.example.org")
    (box.path / "cur/large").write_bytes(b"x" * 600_000)
    report = report_of(config)
    assert report.message_counts == {0: 3, 102400: 1, 524288: 1, 1048576: 0, 2097152: 0, 5242880: 0, 10485760: 0}


def test_logins_and_activity(config):
    for number, days in enumerate([0, 5, 35, 99, 200]):
        create(config, f"user{number:05}@chat.example.org", days)
    create(config, "ci-123456@chat.example.org", 0)
    config.mailbox("echo@chat.example.org").path.mkdir()
    report = report_of(config)
    assert (report.logins, report.ci_logins) == (6, 1)
    assert report.active == {1: 1, 10: 2, 30: 2, 40: 3, 80: 3, 100: 4, 150: 4}


def test_index_files_in_memory_are_extra(config, tmp_path):
    box = create(config, "user12345@chat.example.org")
    box.index_path.mkdir(parents=True)
    (box.index_path / "dovecot.index").write_bytes(b"x" * 1000)
    report = Report(time.time())
    report.add(box, index_in_memory=True)
    assert (report.message_bytes, report.extra_bytes) == (1100, 1004)
    assert report_of(config).extra_bytes == 4


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (999, "999"), (1500, "1.5K"), (2 * 10**6, "2.0M"), (10**9, "1.0G")]
)
def test_decimal_units(size, text):
    assert short(size) == text


OPTIONS = [("--days", "1"), ("--min-login-age", "1"), ("--mdir", "cur")]


@pytest.mark.parametrize("chosen", [c for n in range(4) for c in itertools.combinations(OPTIONS, n)], ids=str)
def test_the_program_runs_with_and_without_mailboxes(config, run_service, tmp_path, chosen):
    arguments = [word for option in chosen for word in option]
    empty = run_service("chatmaild.fsreport", tmp_path / "settings.toml", *arguments)
    assert (empty.returncode, empty.stdout.splitlines()[0]) == (0, "addresses: 0, of test runs: 0, others: 0")
    create(config, "user12345@chat.example.org")
    result = run_service("chatmaild.fsreport", tmp_path / "settings.toml", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert "addresses: 1, of test runs: 0, others: 1" in result.stdout


def test_files_are_written_whole_and_readable(config, run_service, tmp_path):
    create(config, "ci-123456@chat.example.org")
    result = run_service(
        "chatmaild.fsreport",
        tmp_path / "settings.toml",
        "--textfile",
        tmp_path,
        "--legacy-metrics",
        tmp_path / "metrics",
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    lines = (tmp_path / "fsreport.prom").read_text().splitlines()
    for line in (
        "# TYPE chatmail_storage_bytes gauge",
        'chatmail_storage_bytes{kind="messages"} 1100',
        'chatmail_storage_bytes{kind="extra"} 4',
        'chatmail_storage_bytes{kind="total"} 1104',
        'chatmail_messages_bytes{min_size="0"} 1100',
        'chatmail_messages_count{min_size="102400"} 0',
        'chatmail_accounts{kind="all"} 1',
        'chatmail_accounts{kind="ci"} 1',
        'chatmail_accounts{kind="user"} 0',
        'chatmail_accounts_active{days="150"} 0',
    ):
        assert line in lines
    assert "ci_accounts 1" in (tmp_path / "metrics").read_text().splitlines()
    for name in ("fsreport.prom", "metrics"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o644
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_textfile_that_cannot_be_written(config, run_service, tmp_path):
    result = run_service("chatmaild.fsreport", tmp_path / "settings.toml", "--textfile", tmp_path / "missing/report")
    assert result.returncode == 1
    assert "missing" in result.stderr
    assert "Traceback" not in result.stderr
