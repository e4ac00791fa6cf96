"""``chatmail_units.unread`` compares drop-ins with the time at which systemd read them."""

import subprocess
import time

import pytest

from _modules import chatmail_units


@pytest.fixture
def read_at(tmp_path, monkeypatch):
    """Sets the time at which systemd has read its units."""
    monkeypatch.setattr(chatmail_units, "UNIT_FILES", tmp_path)

    def at(seconds):
        done = subprocess.CompletedProcess([], 0, f"{int(1e6 * (seconds - time.time() + time.monotonic()))}\n", "")
        monkeypatch.setattr(chatmail_units, "run", lambda argv: done)
        # Of an apply of its own.
        monkeypatch.setattr(chatmail_units, "__context__", {}, raising=False)

    return at


def test_a_drop_in_that_was_written_after_systemd_read_its_units_is_told(tmp_path, read_at):
    (tmp_path / "a.service.d").mkdir()
    (tmp_path / "a.service.d" / "x.conf").write_text("[Service]\n")
    read_at(time.time() - 60)
    assert chatmail_units.unread(["a", "b"]) == [f"{tmp_path}/a.service.d", f"{tmp_path}/a.service.d/x.conf"]
    assert chatmail_units.unread(["b"]) == []
    read_at(time.time() + 60)
    assert chatmail_units.unread(["a", "b"]) == []


def test_a_removed_drop_in_is_told_by_its_directory(tmp_path, read_at):
    (tmp_path / "a.service.d").mkdir()
    read_at(time.time() - 60)
    assert chatmail_units.unread(["a"]) == [f"{tmp_path}/a.service.d"]


def test_what_was_read_in_the_middle_of_an_apply_is_still_told_to_the_next_services(tmp_path, read_at, monkeypatch):
    (tmp_path / "a.service.d").mkdir()
    read_at(time.time() - 60)
    assert chatmail_units.unread(["b"]) == []
    apply = chatmail_units.__context__
    read_at(time.time() + 60)
    monkeypatch.setattr(chatmail_units, "__context__", apply)
    assert chatmail_units.unread(["a"]) == [f"{tmp_path}/a.service.d"]
