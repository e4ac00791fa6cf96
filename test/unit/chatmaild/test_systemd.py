"""Telling systemd about the state of a service."""

import os
import socket

import pytest

from chatmaild import systemd


@pytest.mark.parametrize("abstract", [False, True])
def test_the_state_reaches_the_service_manager(tmp_path, monkeypatch, abstract):
    name = f"chatmaild-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        manager.bind("\0" + name if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        systemd.notify("READY=1\nSTATUS=listening")
        assert manager.recv(100) == b"READY=1\nSTATUS=listening"


def test_without_a_service_manager_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setattr(socket, "socket", None)
    systemd.notify("READY=1")


def test_a_manager_that_is_gone_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError):
        systemd.notify("READY=1")
