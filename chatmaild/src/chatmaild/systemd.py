"""Telling systemd about the state of a service (sd_notify(3)), without libsystemd."""

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
