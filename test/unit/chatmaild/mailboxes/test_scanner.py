"""What lies in a mailbox."""

import os

import pytest

from chatmaild.config import Config, read_config
from chatmaild.mailboxes.mailbox import Mailbox
from chatmaild.mailboxes.scanner import folder, list_directory, mailboxes, scan, size

USER = "user12345@chat.example.org"


def write(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


@pytest.fixture
def mailbox(tmp_path):
    mailbox = Mailbox(tmp_path / "mail", USER)
    write(mailbox.path / "cur/msg1", 500)
    write(mailbox.path / "new/msg2", 600)
    write(mailbox.path / ".Folder/other", 4)
    write(mailbox.path / "password", 20)
    write(mailbox.path / "maildirsize", 10)
    return mailbox


def sizes(files):
    return sorted(map(size, files))


def test_messages_and_other_files_are_told_apart(mailbox):
    os.utime(mailbox.password_path, (1000, 1000))
    content = scan(mailbox.path)
    assert sorted((folder(message), size(message)) for message in content.messages) == [("cur", 500), ("new", 600)]
    assert sizes(content.extra) == [4, 10, 20]
    assert mailbox.last_login() == 1000
    write(mailbox.path / "large", 1000)
    write(mailbox.path / "small", 3)
    assert sizes(scan(mailbox.path).extra) == [3, 4, 10, 20, 1000]
    mailbox.password_path.unlink()
    assert mailbox.last_login() is None


def test_messages_of_subfolders_count(mailbox):
    write(mailbox.path / ".DeltaChat/cur/msg3", 700)
    write(mailbox.path / ".DeltaChat/tmp/msg4", 800)
    assert sizes(scan(mailbox.path).messages) == [500, 600, 700, 800]


def test_directories_and_links_in_folders_are_ignored(mailbox, tmp_path):
    outside = write(tmp_path / "outside/cur/msg", 900)
    write(mailbox.path / "cur/directory/file", 900)
    (mailbox.path / "cur/link").symlink_to(outside)
    (mailbox.path / ".Link").symlink_to(tmp_path / "outside")
    os.mkfifo(mailbox.path / "new/fifo")
    content = scan(mailbox.path)
    assert sizes(content.messages) == [500, 600]
    assert len(content.extra) == 3


def test_what_vanishes_during_the_scan_is_passed_over(mailbox, monkeypatch):
    scandir = os.scandir

    def vanishing(path):
        if os.fspath(path).endswith("/.Folder"):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    content = scan(mailbox.path)
    (mailbox.path / "cur/msg1").unlink()
    assert sizes(content.messages) == [0, 600]
    assert sizes(content.extra) == [10, 20]


def test_what_is_not_there(tmp_path):
    assert scan(tmp_path / "missing") == ([], [])
    assert list_directory(tmp_path / "missing") == []


def test_mailboxes_are_directories_with_an_at(mailbox, write_config, tmp_path):
    (tmp_path / "mail/pending_notifications").mkdir()
    write(tmp_path / "mail/file@chat.example.org", 5)
    (tmp_path / "mail/link@chat.example.org").symlink_to(mailbox.path)
    assert [found.address for found in mailboxes(read_config(write_config(), Config))] == [USER]


def test_no_directory_no_mailboxes(write_config, capsys):
    assert list(mailboxes(read_config(write_config(), Config))) == []
    assert "no mailboxes" in capsys.readouterr().err
