"""chatmaild.service: what systemd and a service tell each other."""

import os
import socket
import subprocess
import sys

import pytest

from chatmaild import service
from test.support import activation
from test.unit.chatmaild.conftest import SOURCE


@pytest.mark.parametrize("abstract", [False, True])
def test_the_state_reaches_the_service_manager(tmp_path, monkeypatch, abstract):
    name = f"chatmaild-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        manager.bind("\0" + name if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        service.notify("READY=1\nSTATUS=listening")
        assert manager.recv(100) == b"READY=1\nSTATUS=listening"


def test_without_a_service_manager_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setattr(socket, "socket", None)
    service.notify("READY=1")


def test_a_manager_that_is_gone_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError):
        service.notify("READY=1")


@pytest.fixture
def run_with_sockets(tmp_path):
    """Run a line of Python in a process that gets sockets from its manager; returns the process."""

    def run(line: str, number: int) -> subprocess.CompletedProcess:
        listeners = [activation.unix_listener(tmp_path / str(position)) for position in range(number)]
        process = activation.start(
            [sys.executable, "-c", f"from chatmaild import service; {line}"],
            listeners,
            {"PYTHONPATH": str(SOURCE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for listener in listeners:
            listener.close()
        return subprocess.CompletedProcess(line, process.wait(20), process.stdout.read(), process.stderr.read())

    return run


@pytest.mark.parametrize("number", [1, 2, 3])
def test_sockets_come_in_the_order_of_the_unit(run_with_sockets, number):
    line = f"print(*[listener.getsockname()[-1] for listener in service.listening_sockets({number})])"
    assert run_with_sockets(line, number).stdout.split() == [str(position) for position in range(number)]


def test_another_number_of_sockets_is_refused(run_with_sockets):
    assert "systemd passed 2 sockets, not 1" in run_with_sockets("service.listening_sockets(1)", 2).stderr


def test_sockets_of_another_process_are_not_ours(monkeypatch):
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    with pytest.raises(service.StartError, match="passed 0 sockets, not 1"):
        service.listening_sockets(1)
