"""The services' files in a mailbox directory."""

import threading
from pathlib import Path

import pytest

from chatmaild.mailboxes.mailbox import Mailbox, without_detail

HASH = "{SHA512-CRYPT}$6$salt$hash"


@pytest.fixture
def mailbox(tmp_path):
    return Mailbox(tmp_path / "mail", "user12345@chat.example.org")


def names(mailbox: Mailbox) -> set[str]:
    return {path.name for path in mailbox.path.iterdir()}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize(
    "address, plain",
    [
        ("user@d.org", "user@d.org"),
        ("User+x@D.org", "user@d.org"),
        ("user+x+y@d.org", "user@d.org"),
        ("user+@d.org", "user@d.org"),
        ("+user@d.org", "+user@d.org"),
        ("+user+x@d.org", "+user@d.org"),
        ("user+x@[192.0.2.7]", "user@[192.0.2.7]"),
        ('"a@b+x"@d.org', '"a@b@d.org'),
        ("user@d+x.org", "user@d+x.org"),
        ("", ""),
    ],
)
def test_address_without_detail(address, plain):
    assert without_detail(address) == plain


def test_an_address_that_was_not_created(mailbox, caplog):
    assert mailbox.read_password() is None
    assert mailbox.last_login() is None
    assert not mailbox.enforces_e2ee()
    assert not mailbox.is_disabled()
    assert not mailbox.path.exists()
    assert not caplog.records


def test_an_empty_password_counts_as_none_and_is_logged(mailbox, caplog):
    mailbox.path.mkdir(parents=True)
    mailbox.password_path.touch()
    assert mailbox.read_password() is None
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert str(mailbox.password_path) in record.getMessage()


@pytest.mark.parametrize("written, read", [(HASH + "\n", HASH), ("bl\u00f6cked", "bl\ufffd\ufffdcked"), ("\n", None)])
def test_passwords_written_by_hand(mailbox, written, read):
    mailbox.path.mkdir(parents=True)
    mailbox.password_path.write_text(written)
    assert mailbox.read_password() == read


def test_creation_makes_parents_and_private_files(mailbox):
    mailbox.create(HASH)
    assert mailbox.password_path.read_bytes() == HASH.encode()
    assert mailbox.read_password() == HASH
    assert names(mailbox) == {"password", "enforceE2EEincoming"}
    assert mode(mailbox.path) == 0o700
    assert mode(mailbox.password_path) == 0o600
    assert mode(mailbox.enforce_e2ee_path) == 0o600


def test_a_fresh_address_takes_no_cleartext_until_the_flag_is_removed(mailbox):
    mailbox.create(HASH)
    assert mailbox.enforces_e2ee()
    mailbox.enforce_e2ee_path.unlink()
    assert not mailbox.enforces_e2ee()


def test_the_flag_is_there_before_the_password(mailbox, monkeypatch):
    def crash(path, target):
        assert mailbox.enforces_e2ee()
        raise OSError("crash")

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(OSError, match="crash"):
        mailbox.create(HASH)
    assert names(mailbox) == {"enforceE2EEincoming"}


def test_simultaneous_writers_leave_one_whole_file(mailbox):
    passwords = [character * 120 for character in "abcdefgh"]
    threads = [threading.Thread(target=mailbox.create, args=(password,)) for password in passwords]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mailbox.read_password() in passwords
    assert names(mailbox) == {"password", "enforceE2EEincoming"}


def test_only_one_holds_the_lock(mailbox):
    with mailbox.try_lock() as first:
        assert first
        with mailbox.try_lock() as second:
            assert not second
    with mailbox.try_lock() as third:
        assert third
    assert names(mailbox) == {"password.lock"}


def test_the_operator_disables_an_address(mailbox):
    mailbox.create(HASH)
    assert not mailbox.is_disabled()
    (mailbox.path / "DISABLED").touch()
    assert mailbox.is_disabled()


@pytest.mark.parametrize("login, remembered", [(100000, 86400), (200000, 172800), (86400, 86400), (86399, 0)])
def test_the_last_login_is_remembered_by_day(mailbox, login, remembered):
    mailbox.create(HASH)
    mailbox.set_last_login(login)
    assert mailbox.last_login() == remembered
    assert mailbox.password_path.stat().st_atime == remembered


def test_a_second_login_of_the_day_writes_nothing(mailbox):
    mailbox.create(HASH)
    mailbox.set_last_login(100000)
    changed = mailbox.password_path.stat().st_ctime_ns
    mailbox.set_last_login(100001)
    assert mailbox.password_path.stat().st_ctime_ns == changed


def test_a_login_to_an_address_that_was_not_created(mailbox):
    with pytest.raises(FileNotFoundError):
        mailbox.set_last_login(100000)
