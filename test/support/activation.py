"""Services as systemd starts them: with sockets that listen already (sd_listen_fds(3))."""

import fcntl
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

# The process has to know its own number.
LAUNCHER = 'LISTEN_PID=$$ exec "$@"'


def start(
    argv: Sequence[str | Path], listeners: Sequence[socket.socket], environment: dict[str, str], **options
) -> subprocess.Popen:
    """Start a service that takes over `listeners`; other options are those of ``subprocess.Popen``."""
    # Above all descriptors that they are going to have.
    descriptors = [fcntl.fcntl(listener, fcntl.F_DUPFD_CLOEXEC, 100) for listener in listeners]
    passed = "".join(f" {number}<&{descriptor}" for number, descriptor in enumerate(descriptors, 3))
    try:
        return subprocess.Popen(
            ["bash", "-c", LAUNCHER + passed, "launcher", *argv],
            pass_fds=descriptors,
            env=environment | {"LISTEN_FDS": str(len(listeners))},
            **options,
        )
    finally:
        for descriptor in descriptors:
            socket.close(descriptor)


def unix_listener(path: Path) -> socket.socket:
    """Listen on a unix socket, whose name may have been another's."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener
