"""What the relay's services have in common: their command lines, logs, sockets, and how they begin and end.

systemd listens for them, starts them, hears from them when they are ready, and ends them by SIGTERM (sd_notify(3),
sd_listen_fds(3)); no libsystemd is needed for that.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any


class StartError(Exception):
    """The service cannot start; the text says why and what to do."""


def parser(description: str, *, config: bool = False) -> argparse.ArgumentParser:
    """The command line of a service, which is called as its module is.

    :param description: what ``--help`` says about it.
    :param config: whether its first argument is a settings file.
    """
    name = Path(sys.argv[0]).stem
    command_line = argparse.ArgumentParser(prog=name, description=description)
    if config:
        command_line.add_argument("config", type=Path, help=f"settings file, such as /etc/chatmail/{name}.toml")
    return command_line


def log_to_journal() -> None:
    """Send the log to standard error, where systemd adds time and name."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)


def run(serve: Callable[..., Coroutine[Any, Any, None]], *, sockets: int = 1) -> None:
    """Run a service until a signal ends it; exit status 1 and a message on standard error if it cannot start.

    :param serve: gets the listening sockets; it waits by `until_stopped` or `stop_signal`.
    :param sockets: how many it needs, in the order of its socket unit.
    """
    log_to_journal()
    try:
        asyncio.run(serve(*listening_sockets(sockets)))
    except StartError as error:
        sys.exit(f"{' '.join([Path(sys.argv[0]).stem, *sys.argv[1:]])}: {error}")


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def until_stopped() -> None:
    """Tell systemd that the service is ready, and wait for SIGTERM or SIGINT."""
    stop = stop_signal()
    notify("READY=1")
    await stop.wait()


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
    :raises StartError: the manager passed none, or another number.
    """
    passed = int(os.environ.get("LISTEN_FDS", "0")) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
    if passed != number:
        raise StartError(
            f"systemd passed {passed} sockets, not {number}; start this by its units, as `systemctl start` does"
        )
    first = 3  # SD_LISTEN_FDS_START
    return [socket.socket(fileno=descriptor) for descriptor in range(first, first + number)]
