"""Whether the machine has room for another address."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from chatmaild.limits import machine as machine_limits
from chatmaild.limits.machine import Limits, available_memory, exceeded_limit, free_disk_space


@pytest.fixture
def make_config(tmp_path):
    def make(**settings) -> Limits:
        permissive = {"max_load_1m": 99999, "min_available_memory_mb": 0, "min_free_disk_space_mb": 0}
        settings = permissive | {"mailboxes_dir": tmp_path} | settings
        return Limits(mail_domain="chat.example.org", **settings)

    return make


@pytest.fixture
def machine(monkeypatch):
    """A machine with load 2.5, 300 MiB of available memory and 2000 MiB of free space."""
    monkeypatch.setattr(os, "getloadavg", lambda: (2.5, 9.0, 9.0))
    monkeypatch.setattr(machine_limits, "available_memory", lambda: 300)
    monkeypatch.setattr(machine_limits, "free_disk_space", lambda path: 2000)


def unreadable(*arguments):
    raise OSError("unreadable")


@pytest.mark.parametrize(
    "limits, reason",
    [
        ({"max_load_1m": 2.5, "min_available_memory_mb": 300, "min_free_disk_space_mb": 2000}, None),
        ({"max_load_1m": 2.25}, "load 2.50 is above 2.25"),
        ({"min_available_memory_mb": 301}, "available memory 300 MB is below 301 MB"),
        ({"min_free_disk_space_mb": 2001}, "free disk space 2000 MB is below 2001 MB"),
        ({"max_load_1m": 1, "min_available_memory_mb": 301, "min_free_disk_space_mb": 2001}, "load 2.50 is above 1.00"),
        ({"min_available_memory_mb": 301, "min_free_disk_space_mb": 2001}, "available memory 300 MB is below 301 MB"),
    ],
)
def test_the_first_limit_passed_is_named(machine, make_config, limits, reason):
    assert exceeded_limit(make_config(**limits)) == reason


def test_what_cannot_be_read_limits_nothing(machine, make_config, monkeypatch, caplog):
    monkeypatch.setattr(os, "getloadavg", unreadable)
    assert exceeded_limit(make_config(max_load_1m=-1)) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "ignoring the limit on the load" in record.getMessage()


def test_an_unreadable_load_leaves_the_other_limits(machine, make_config, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", unreadable)
    assert exceeded_limit(make_config(min_free_disk_space_mb=99999999 * 1024)).startswith("free disk space 2000 MB")


def test_a_missing_directory_does_not_refuse(make_config, tmp_path, caplog):
    config = make_config(mailboxes_dir=tmp_path / "absent", min_free_disk_space_mb=99999999 * 1024)
    assert exceeded_limit(config) is None
    assert "ignoring the limit on the free disk space" in caplog.text


@pytest.mark.parametrize(("free", "files", "lacking"), [(49, 1000, True), (50, 1000, False), (0, 0, False)])
def test_files_are_looked_at_as_bytes_are(make_config, monkeypatch, free, files, lacking):
    status = SimpleNamespace(f_favail=free, f_files=files, f_bavail=10**9, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: status)
    reason = exceeded_limit(make_config())
    assert reason == ("the disk has room for few further files; `df -i` shows how many" if lacking else None)


def test_measures_of_this_machine():
    assert 0 < available_memory() < 2**40
    assert 0 <= free_disk_space(Path("/")) < 2**40
