"""A host that is too small is told so, by what it has and what is needed."""

import os

import pytest

import chatmail_capacity


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host whose sizes (MB) the test chooses; returns what it lacks."""

    def shortages(memory: int, disk: int) -> list[str]:
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc/meminfo").write_text(f"MemTotal:       {memory * 1024} kB\nMemFree: 1 kB\n")
        sizes = os.statvfs_result((4096, 4096, disk * 256, *[0] * 7))
        monkeypatch.setattr(chatmail_capacity.os, "statvfs", lambda path: sizes)
        return chatmail_capacity.shortages(tmp_path, "/home/vmail/mail/a.test")

    return shortages


def test_what_is_sold_as_1_gb_of_memory_and_10_gb_of_disk_is_enough(host):
    assert host(952, 9700) == []


def test_half_of_it_is_not(host):
    memory, disk = host(458, 4900)
    assert memory.startswith("the host has 458 MB of memory; a relay needs 1 GB")
    assert disk.startswith("the disk of /home/vmail/mail/a.test has 4900 MB; a relay needs 10 GB")
