"""Settings files, and our services as processes of their own."""

import contextlib
import logging
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from test.support import activation
from test.support.service_settings import write_settings
from test.support.waiting import wait_until

SOURCE = Path(__file__).parents[3] / "chatmaild/src"

# The machine that runs the tests must not decide their outcome.
NO_LIMITS = {"max_load_1m": 99999, "min_available_memory": 0, "min_free_disk_space": 0}


@pytest.fixture(autouse=True)
def _services_log_level(caplog):
    """What the services log by default; asyncio's debug lines are not ours."""
    caplog.set_level(logging.INFO)


@pytest.fixture
def write_config(tmp_path):
    """Write a settings file; keyword arguments are settings of the pillar, or keys of the file."""

    def write(**settings) -> Path:
        usual = {"mail_domain": "chat.example.org", "mailboxes_dir": tmp_path / "mail", **NO_LIMITS}
        return write_settings(tmp_path / "settings.toml", **usual | settings)

    return write


@pytest.fixture(scope="session")
def rsa_key():
    """A key for DKIM; making one takes a tenth of a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def disturb(connect: Callable[[], socket.socket]) -> None:
    """Be broken clients: send noise, half a line, a line without end or nothing, and hang up without reading."""
    noise = random.Random(5)
    for octets in (
        *(noise.randbytes(noise.randint(1, 4000)) for _ in range(30)),
        *(noise.randbytes(3000).replace(b"\n", b"") + b"\r\n" for _ in range(10)),
        b"Lshared/user",
        b"L" * 300_000,
        b"",
    ):
        with contextlib.suppress(OSError), connect() as connection:
            connection.sendall(octets)


class Daemon:
    """A dict service, running; what it logs is collected."""

    def __init__(self, module: str, socket_path: Path, ini: Path, environment: dict[str, str]) -> None:
        self.socket_path = socket_path
        with activation.unix_listener(socket_path) as listener:
            self.process = activation.start(
                [sys.executable, "-m", module, ini], [listener], environment, stderr=subprocess.PIPE, text=True
            )
        self._log: list[str] = []
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        for line in self.process.stderr:
            self._log.append(line.rstrip("\n"))

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(str(self.socket_path))
        return connection

    def ask(self, request: bytes) -> bytes:
        """Send `request` over a new connection, end the input, and return everything that is answered."""
        with self.connect() as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def wait_for_log(self, text: str) -> str:
        """Wait until the service logs a line with `text`; return that line."""
        return wait_until(lambda: [line for line in self._log if text in line], f"{text!r} is not logged")[0]

    def stop(self) -> list[str]:
        """End the service as systemd does; return the lines it logged."""
        self.process.terminate()
        assert self.process.wait(20) == 0
        self._reader.join(20)
        return self._log


@pytest.fixture
def start_daemon(tmp_path):
    """Start a dict service and wait until it says that it is ready."""
    with contextlib.ExitStack() as stack:

        def start(module: str, ini: Path) -> Daemon:
            manager = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            manager.settimeout(20)
            (tmp_path / "notify").unlink(missing_ok=True)  # of a daemon before it
            manager.bind(str(tmp_path / "notify"))
            environment = os.environ | {"PYTHONPATH": str(SOURCE), "NOTIFY_SOCKET": str(tmp_path / "notify")}
            daemon = Daemon(module, tmp_path / "dict.socket", ini, environment)
            stack.callback(daemon.process.kill)
            assert manager.recv(100) == b"READY=1"
            return daemon

        yield start


@pytest.fixture
def run_service(tmp_path):
    """Run a service that ends by itself, with sockets from its manager or without; what it printed is collected."""

    def run(module: str, *arguments, sockets: int = 0) -> subprocess.CompletedProcess:
        argv = [sys.executable, "-m", module, *arguments]
        environment = os.environ | {"PYTHONPATH": str(SOURCE)}
        listeners = [activation.unix_listener(tmp_path / f"listener{number}") for number in range(sockets)]
        with activation.start(
            argv, listeners, environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            for listener in listeners:
                listener.close()
            printed = process.communicate(timeout=20)
        return subprocess.CompletedProcess(argv, process.returncode, *printed)

    return run
