"""Old messages and unused mailboxes go, and nothing else."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmaild import expire
from chatmaild.config import read_config
from chatmaild.expire import LARGE, Limits, is_expired
from chatmaild.mailboxes import mailbox
from chatmaild.mailboxes.mailbox import DAY

USER = "user12345@chat.example.org"
ECHO = "echo@chat.example.org"
NOW = 1_800_000_000
LIMITS = Limits(message=NOW - 20 * DAY, large_message=NOW - 7 * DAY, login=NOW - 90 * DAY)


@pytest.fixture
def store(tmp_path, write_config):
    """A mail store; the methods make mailboxes and files, and run the programs over it."""
    return Store(tmp_path, write_config)


@pytest.fixture(autouse=True)
def index_dir(tmp_path, monkeypatch):
    monkeypatch.setattr(mailbox, "INDEX_DIR", tmp_path / "indexes")
    return tmp_path / "indexes"


class Store:
    def __init__(self, tmp_path, write_config):
        self.ini = write_config()
        self.write_config = write_config
        self.path = tmp_path / "mail"

    def create(self, address=USER, login_days=0.0):
        config = read_config(self.ini, expire.Settings)
        box = config.mailbox(address)
        box.create("{SHA512-CRYPT}$6$salt$hash")
        age(box.password_path, login_days)
        return box

    def file(self, path, size=10, days=0.0):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
        age(path, days)
        return path


def age(path, days):
    seconds = time.time() - days * DAY
    os.utime(path, (seconds, seconds))


@pytest.fixture
def run_expire(store, monkeypatch, capsys):
    """Run the program in this process; returns its standard output and standard error."""

    def run(*arguments, command=expire.main):
        monkeypatch.setattr("sys.argv", ["expire", str(store.ini), *arguments])
        command()
        return capsys.readouterr()

    return run


def test_a_missing_directory_is_no_error(run_expire):
    output = run_expire("--remove")
    assert "no mailboxes" in output.err
    assert "mailboxes removed 0 of 0, files removed 0 of 0" in output.out


def test_what_is_removed_is_named(store, run_expire):
    box = store.create()
    removed = [
        store.file(box.path / "cur/old", days=21),
        store.file(box.path / "new/old", days=21),
        store.file(box.path / "tmp/old", days=21),
        store.file(box.path / ".DeltaChat/cur/old", days=21),
        store.file(box.path / "cur/large", 300000, days=8),
        store.file(box.path / ".DeltaChat/cur/large", 300000, days=8),
        store.file(box.path / "maildirsize", days=1),
    ]
    kept = [
        store.file(box.path / "cur/young", days=19),
        store.file(box.path / "cur/small", 200000, days=8),
        store.file(box.path / "new/large", 300000, days=8),
        store.file(box.path / "cur/large-young", 300000, days=1),
        store.file(box.path / "cur/directory/old", days=100),
        store.file(box.path / "subscriptions", days=100),
        box.password_path,
    ]
    output = run_expire("--remove", "-v")
    for path in removed:
        assert not path.exists()
        assert any(line.startswith("removing ") and line.endswith(f" {path}") for line in output.err.splitlines())
    for path in kept:
        assert path.exists()
        assert str(path) not in output.err
    assert "mailboxes removed 0 of 1, files removed 7 of " in output.out


def test_a_mailbox_without_old_messages_keeps_its_quota_cache(store, run_expire):
    box = store.create()
    store.file(box.path / "cur/young", days=1)
    quota_cache = store.file(box.path / "maildirsize", days=30)
    run_expire("--remove")
    assert quota_cache.exists()


def test_a_dry_run_changes_nothing(store, run_expire, index_dir):
    store.ini = store.write_config(max_mailbox_size="1M", tmpfs_index=True)
    box = store.create()
    second = int(time.time()) - 5 * DAY
    store.file(box.path / "cur/old", days=21)
    store.file(box.path / "maildirsize")
    store.file(box.path / f"cur/{second}.M1P1.host,S=2000000:2,S", days=5)
    store.file(box.path / "dovecot.index.cache", 600000)
    store.create("inactive1@chat.example.org", login_days=91)
    (store.path / "empty1234@chat.example.org").mkdir()
    (store.path / "removed-leftover").mkdir()
    before = sorted(path for path in store.path.rglob("*"))
    output = run_expire("-v")
    assert sorted(path for path in store.path.rglob("*")) == before
    assert "dry run, nothing was removed: mailboxes removed 2 of 3, files removed 4 of " in output.out
    output = run_expire("--remove")
    assert "\nmailboxes removed 2 of 3, files removed 4 of " in "\n" + output.out


def test_inactive_mailboxes_go_and_others_stay(store, run_expire):
    for number in range(150):
        box = store.create(f"old{number:06}@chat.example.org", login_days=90 + 1 / DAY)
        (box.path / "cur/directory").mkdir(parents=True)
    current = {f"new{number:06}@chat.example.org" for number in range(5)}
    for address in current:
        box = store.create(address, login_days=89)
        (box.path / "cur/directory").mkdir(parents=True)
    output = run_expire("--remove")
    assert {path.name for path in store.path.iterdir()} == current
    assert all((store.path / address / "password").exists() for address in current)
    assert "mailboxes removed 150 of 155" in output.out


def test_delete_inactive_users_removes_mailboxes_alone(store, run_expire):
    store.create("inactive1@chat.example.org", login_days=91)
    message = store.file(store.create().path / "cur/old", days=100)
    store.file(store.path / ECHO / "cur/old", days=100)
    run_expire(command=expire.delete_inactive_users)
    assert {path.name for path in store.path.iterdir()} == {USER, ECHO}
    assert message.exists()


def test_a_directory_without_password_goes_only_when_empty(store, run_expire):
    path = store.file(store.path / USER / "cur/message", days=100)
    assert "doesn't have last_login but isn't empty" in run_expire("--remove").err
    assert path.exists()
    path.unlink()
    path.parent.rmdir()
    assert "doesn't have last_login" not in run_expire("--remove").err
    assert not (store.path / USER).exists()


def test_a_password_in_a_subfolder_is_no_login(store, run_expire):
    store.file(store.path / USER / ".Folder/password", days=100)
    assert "doesn't have last_login but isn't empty" in run_expire("--remove").err


def test_the_echobot_has_no_password_and_expiring_mail(store, run_expire):
    old = store.file(store.path / ECHO / "cur/old", days=21)
    young = store.file(store.path / ECHO / "cur/young", days=1)
    assert "doesn't have last_login" not in run_expire("--remove").err
    assert not old.exists()
    assert young.exists()


def test_large_index_files_go(store, run_expire, index_dir):
    store.ini = store.write_config(tmpfs_index=True)
    box = store.create()
    large = [
        store.file(box.path / "dovecot.index.cache", 512001),
        store.file(box.path / ".DeltaChat/dovecot.index", 600000),
        store.file(index_dir / USER / ".INBOX/dovecot.index.log", 600000),
    ]
    kept = [
        store.file(box.path / "dovecot.index.log", 512000),
        store.file(box.path / "dovecot-uidlist", 600000),
        store.file(index_dir / USER / ".INBOX/dovecot.index", 100),
    ]
    run_expire("--remove")
    assert not any(path.exists() for path in large)
    assert all(path.exists() for path in kept)


def test_an_inactive_mailbox_takes_its_index_files_along(store, run_expire, index_dir):
    store.create(login_days=91)
    store.file(index_dir / USER / ".INBOX/dovecot.index")
    store.create("inactive1@chat.example.org", login_days=91)
    run_expire("--remove")
    assert list(store.path.iterdir()) == []
    assert not (index_dir / USER).exists()


def test_the_rest_of_a_removal_that_was_cut_short_goes(store, run_expire):
    box = store.create()
    store.file(store.path / "removed-abc123/cur/message")
    (store.path / "pending_notifications").mkdir()
    run_expire("--remove")
    assert {path.name for path in store.path.iterdir()} == {box.address, "pending_notifications"}


def test_symbolic_links_are_never_followed(store, run_expire, tmp_path, index_dir):
    outside = store.file(tmp_path / "outside/cur/old", days=100)
    box = store.create()
    (box.path / "cur").symlink_to(outside.parent)
    (box.path / ".Folder").symlink_to(tmp_path / "outside")
    (box.path / "new").mkdir()
    (box.path / "new/link").symlink_to(outside)
    (store.path / "link12345@chat.example.org").symlink_to(tmp_path / "outside")
    gone = store.create("inactive1@chat.example.org", login_days=91)
    (gone.path / "cur").symlink_to(outside.parent)
    run_expire("--remove")
    assert outside.exists()
    assert (box.path / "new/link").is_symlink()
    assert not gone.path.exists()


def test_files_that_vanish_are_reported(store, run_expire, monkeypatch):
    box = store.create()
    vanished = store.file(box.path / "cur/vanished", days=21)
    old = store.file(box.path / "cur/old", days=21)
    inactive = store.create("inactive1@chat.example.org", login_days=91)
    monkeypatch.setattr(
        expire.Expiry, "_say", lambda self, *words: vanished.unlink(missing_ok=True) if len(words) == 3 else None
    )
    output = run_expire("--remove")
    assert f"{vanished} was gone already" in output.err
    assert not old.exists()
    assert not inactive.path.exists()


def test_one_mailbox_that_fails_does_not_stop_the_run(store, run_expire, monkeypatch, capsys):
    bad = store.create("aaaaaaaaa@chat.example.org")
    old = [store.file(store.create(f"user{n:05}@chat.example.org").path / "cur/old", days=21) for n in range(5)]
    scan = expire.scanner.scan

    def failing_scan(path):
        if path == bad.address:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(expire.scanner, "scan", failing_scan)
    with pytest.raises(SystemExit, match="1 mailbox"):
        run_expire("--remove")
    assert not any(path.exists() for path in old)
    assert bad.address in capsys.readouterr().err


def test_maxnum_and_days(store, run_expire):
    for number in range(5):
        store.file(store.create(f"user{number:05}@chat.example.org").path / "cur/old", days=21)
    assert "mailboxes removed 0 of 5, files removed 0 of" in run_expire("--days", "2").out
    assert "mailboxes removed 0 of 3, files removed 3 of" in run_expire("--maxnum", "3").out
    assert "mailboxes removed 0 of 0" in run_expire("--maxnum", "0").out


def test_the_quota_step_leaves_what_fits(store, run_expire):
    store.ini = store.write_config(max_mailbox_size="4M")  # down to 2
    box = store.create()
    now = int(time.time())
    paths = [
        store.file(box.path / f"cur/{now - days * DAY}.M1P1.host,S=1048576,W=1060000:2,S", 100, days)
        for days in (10, 5, 3, 0)
    ]
    quota_cache = store.file(box.path / "maildirsize")
    output = run_expire("--remove")
    assert [path.exists() for path in paths] == [False, False, True, True]
    assert not quota_cache.exists()
    assert f"quota-expire: removed 2 message(s) from {USER}" in output.err


@pytest.mark.parametrize("argument", ["-1", "x", "1.5", "1" * 20])
def test_arguments_that_make_no_sense(run_service, store, argument):
    result = run_service("chatmaild.expire", store.ini, f"--days={argument}")
    assert result.returncode == 2
    assert "--days" in result.stderr


def test_the_program_explains_itself(run_service, tmp_path):
    assert "without it nothing is changed" in run_service("chatmaild.expire", "--help").stdout
    result = run_service("chatmaild.expire", tmp_path / "missing.ini")
    assert result.returncode == 1
    assert "cannot read the settings" in result.stderr


messages = st.tuples(
    st.floats(NOW - 200 * DAY, NOW + DAY), st.integers(0, 10**7), st.sampled_from(["cur", "new", "tmp"])
)


@given(messages, st.floats(0, 100 * DAY))
def test_a_message_does_not_come_back_as_time_passes(message, later):
    if is_expired(*message, LIMITS):
        assert is_expired(*message, Limits(*(limit + later for limit in LIMITS)))


@given(messages)
def test_what_expires_is_old_and_what_stays_is_not(message):
    mtime, size, folder = message
    days = (NOW - mtime) / DAY
    large_and_seen = size > LARGE and folder == "cur"
    assert is_expired(*message, LIMITS) == (days > 20 or (days > 7 and large_and_seen))
    assert mtime < LIMITS.any_message or not is_expired(*message, LIMITS)


def test_the_callers_directory_may_be_gone_meanwhile(tmp_path, monkeypatch):
    (tmp_path / "mail").mkdir()
    for gone in ("before", "meanwhile"):
        (tmp_path / gone).mkdir()
        monkeypatch.chdir(tmp_path / gone)
        if gone == "before":
            (tmp_path / gone).rmdir()
        with expire.working_in(tmp_path / "mail"):
            assert Path.cwd() == tmp_path / "mail"
            if gone == "meanwhile":
                (tmp_path / gone).rmdir()
        assert Path.cwd() == Path("/")
