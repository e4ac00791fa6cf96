"""What is in a backup: all that makes the relay, and of its mail what is not about to go."""

import json
import os
from pathlib import Path

import pytest

from chatmaild import backup
from chatmaild.mailboxes.mailbox import DAY

NOW = 1_800_000_000
ADDRESS = "alice@chat.test"


@pytest.fixture
def settings(tmp_path) -> backup.Settings:
    return backup.Settings(
        mail_domain="chat.test",
        mailboxes_dir=tmp_path / "mail",
        backup_repository=str(tmp_path / "repository"),
        backup_password_file=tmp_path / "password",
        backup_mail=True,
        delete_mails_after=20,
        tls_cert_path=tmp_path / "cert",
        tls_key_path=tmp_path / "key",
    )


def test_of_a_mailbox_its_identity_is_saved_and_not_what_dovecot_keeps(settings):
    box = settings.mailbox(ADDRESS)
    box.create("{SHA512-CRYPT}hash")
    for name in ("cur", "dovecot.index"):
        (box.path / name).mkdir()
    names = {path.name for path in backup.identity(settings) if path.is_relative_to(box.path)}
    assert names == {"password", "enforceE2EEincoming", "DISABLED", "metadata.json"}


def test_a_certificate_behind_a_link_is_saved_with_its_link(settings, tmp_path):
    (tmp_path / "archive").write_text("certificate")
    settings.tls_cert_path.symlink_to(tmp_path / "archive")
    assert {settings.tls_cert_path, tmp_path / "archive"} <= set(backup.identity(settings))


def test_a_message_is_left_out_before_the_relay_removes_it(settings):
    box = settings.mailbox(ADDRESS)
    box.create("{SHA512-CRYPT}hash")
    for days, folder in ((0, "new"), (17, "cur"), (19, "cur"), (1, ".DeltaChat/cur")):
        path = box.path / folder / f"{days}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    saved = {path.name for path in backup.mail(settings, NOW) if path.is_relative_to(box.path)}
    assert saved == {"0", "17", "1"}


def test_an_outcome_keeps_when_it_was_good(tmp_path):
    backup.record("save", "", NOW, tmp_path)
    assert backup.record("save", "Fatal: no network", NOW + 5, tmp_path) == backup.Outcome(
        NOW + 5, NOW, "Fatal: no network"
    )
    assert json.loads((tmp_path / "save.json").read_text())["good"] == NOW


@pytest.mark.parametrize("content", ["", "[]", "{", '{"good": 1'])
def test_a_damaged_note_is_replaced(tmp_path, content):
    (tmp_path / "check.json").write_text(content)
    assert backup.record("check", "", NOW, tmp_path).good == NOW


def restic_that(tmp_path: Path, monkeypatch, script: str) -> None:
    program = tmp_path / "bin" / "restic"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_what_restic_says_is_told_without_the_password(settings, tmp_path, monkeypatch):
    restic_that(
        tmp_path, monkeypatch, 'echo "some words" >&2; echo "Fatal: wrong password or no key found" >&2; exit 1'
    )
    with pytest.raises(backup.Failed, match=r"^Fatal: wrong password or no key found$"):
        backup.save(settings, NOW)


def test_files_that_cannot_be_read_twice_are_a_failure(settings, tmp_path, monkeypatch):
    restic_that(tmp_path, monkeypatch, 'case "$*" in *" backup "*) exit 3;; *) echo "[]";; esac')
    settings.mailboxes_dir.mkdir()
    with pytest.raises(backup.Failed, match="could not be read"):
        backup.save(settings, NOW)


def test_without_restic_an_apply_is_told(settings, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(backup.Failed, match="an apply installs it"):
        backup.check(settings)
