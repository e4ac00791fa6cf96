"""What systemd and a service tell each other (sd_notify(3), sd_listen_fds(3)), without libsystemd."""

import os
import socket


def notify(state: str) -> None:
    """Send `state` to the service manager; do nothing where there is none.

    :param state: newline-separated assignments, such as ``READY=1``; sd_notify(3) lists them.
    :raises OSError: the manager named a socket in ``NOTIFY_SOCKET`` that cannot be reached.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # abstract socket, unix(7)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.sendto(state.encode(), address)


def listening_sockets(number: int) -> list[socket.socket]:
    """The sockets that the service manager listens on for this service, in the order of its socket unit.

    :param number: how many the service needs.
    :raises ValueError: the manager passed none, or another number.
    """
    passed = int(os.environ.get("LISTEN_FDS", "0")) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
    if passed != number:
        raise ValueError(
            f"systemd passed {passed} sockets, not {number}; start this by its units, as `systemctl start` does"
        )
    first = 3  # SD_LISTEN_FDS_START
    return [socket.socket(fileno=descriptor) for descriptor in range(first, first + number)]
