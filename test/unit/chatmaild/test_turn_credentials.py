"""TURN credentials: what is in them, and the service on its socket."""

import base64
import contextlib
import hashlib
import hmac
import re
import socket
import subprocess
import sys
import time

import pytest

from chatmaild.service import StartError
from chatmaild.turn_credentials import LIFETIME, credentials, read_secret
from test.unit.chatmaild.conftest import SOURCE, disturb

SECRET = b"0123456789abcdef0123456789abcdef"


def test_the_user_is_the_expiry_and_the_password_its_hmac():
    user, password = credentials(SECRET, 1_700_000_000.9)
    assert user == str(1_700_000_000 + 5 * 86400)
    assert base64.b64decode(password) == hmac.new(SECRET, user.encode(), hashlib.sha1).digest()


def test_white_space_around_the_secret_is_none_of_it(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    assert read_secret(path) == SECRET


def test_a_secret_that_is_too_short_is_refused(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"short\n")
    with pytest.raises(StartError, match="at least 16 bytes"):
        read_secret(path)


@pytest.fixture
def service(tmp_path):
    """The service behind a socket that systemd's own tool passes it; its path."""
    secret, path = tmp_path / "secret", tmp_path / "turn.socket"
    secret.write_bytes(SECRET + b"\n")
    activate = ["systemd-socket-activate", f"--listen={path}", f"--setenv=PYTHONPATH={SOURCE}"]
    process = subprocess.Popen(
        [*activate, sys.executable, "-m", "chatmaild.turn_credentials", secret], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 20
    while True:
        # The socket has its name before it listens, and the first who connects starts the service.
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            ask(path)
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield path
    process.terminate()
    assert process.wait(20) == 0


def ask(path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        with client.makefile("rb") as answer:
            return answer.read()


def test_each_client_gets_one_line(service):
    before = int(time.time())
    lines = [ask(service) for _ in range(20)]
    for line in lines:
        user, password = re.fullmatch(rb"([0-9]+):(\S+)\n", line).groups()
        assert before + LIFETIME <= int(user) <= time.time() + LIFETIME
        assert credentials(SECRET, int(user) - LIFETIME) == (user.decode(), password.decode())


def test_a_client_that_hangs_up_at_once_disturbs_nobody(service):
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(service))
    assert ask(service).endswith(b"\n")


def test_broken_clients_leave_it_up(service):
    def connect() -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(str(service))
        return client

    disturb(connect)
    assert ask(service).endswith(b"\n")


@pytest.mark.parametrize("environment", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}])
def test_without_a_socket_of_systemd_it_says_so(tmp_path, environment):
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    done = subprocess.run(
        [sys.executable, "-m", "chatmaild.turn_credentials", secret],
        env={"PYTHONPATH": str(SOURCE), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "systemd passed 0 sockets, not 1" in done.stderr


def test_a_missing_secret_is_named(tmp_path, run_service):
    done = run_service("chatmaild.turn_credentials", tmp_path / "none", sockets=1)
    assert done.returncode == 1
    assert f"cannot read {tmp_path}/none: No such file" in done.stderr
