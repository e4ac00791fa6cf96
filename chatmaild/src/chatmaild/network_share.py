"""How many connections one network may have to an SMTP port, told to Postfix when a client connects.

Postfix itself counts by address (anvil(8)), of which a customer with IPv6 has as many as they like; it knows networks
since version 3.8. It asks here by the protocol of SMTPD_POLICY_README, and tells the limit as `policy_context`. What is
counted are the kernel's sockets, so nothing has to be remembered or told at the end of a connection.

Each connection may have a message of the largest size in a file until it is complete, so the less room a disk has, the
fewer connections there are for a network: never could it fill more than a part of what is free.
"""

import asyncio
import contextlib
import functools
import ipaddress
import logging
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from . import service
from .limits.rate_limit import place_of
from .smtp import replies

REQUEST_MAX = 16 * 1024  # octets
BACKLOG = 1024  # connections not yet accepted
IDLE_SECONDS = 330  # Postfix closes what it has not used for 300 s
# A count takes up to a fifth of a second. It is made again where by a new one who asks might pass, and now and then to
# see who does not ask. Of a network that had its share it is believed for longer, or attackers would keep us counting.
FRESH_SECONDS, FULL_SECONDS, STALE_SECONDS = 0.1, 1, 5
DISK_PARTS = 4  # of what is free on the disk of the queue, a network may fill one by each port
PLACES_MIN = 2  # however full the disk is: Postfix itself refuses mail then
REPORT_SECONDS = 60
REPORTED_MAX = 20  # networks, those refused most often
PASSES = "DUNNO"
# Local address and port, remote address, state: established, or closed by the client alone (proc(5), tcp_states.h).
_SOCKET = re.compile(r"^ *[0-9]+: [0-9A-F]+:([0-9A-F]{4}) ([0-9A-F]{8,32}):[0-9A-F]{4} 0[18] ", re.MULTILINE)

logger = logging.getLogger(__name__)


def tables() -> str:
    """The kernel's TCP sockets of this host, as in proc(5)."""
    text = ""
    for name in ("tcp", "tcp6"):
        # A kernel may be without IPv6.
        with contextlib.suppress(FileNotFoundError):
            text += Path(f"/proc/self/net/{name}").read_text(encoding="ascii")
    return text


def _remote_address(digits: str) -> str:
    """An address from its words, each of which is in the host's byte order."""
    words = bytes.fromhex(digits)
    octets = b"".join(int.from_bytes(words[at : at + 4], "little").to_bytes(4) for at in range(0, len(words), 4))
    return str(ipaddress.ip_address(octets))


def established(text: str) -> Iterator[tuple[int, str]]:
    """The local port and the remote address of each connection in `text`; see `tables`."""
    for match in _SOCKET.finditer(text):
        yield int(match[1], 16), _remote_address(match[2])


def places_on_disk(queue: Path, message_size: int) -> int:
    """For how many connections of a network there is room in the file system of `queue`.

    :param message_size: octets that each may fill.
    """
    status = os.statvfs(queue)
    return max(PLACES_MIN, status.f_bavail * status.f_frsize // (DISK_PARTS * message_size))


class Shares:
    """Decides by the connections that a network has."""

    def __init__(
        self,
        places: Callable[[], int],
        read: Callable[[], str] = tables,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up, with nothing counted yet.

        :param places: the connections of a network for which there is room now; less than Postfix's limit, they count.
        :param read: the kernel's table, see `tables`.
        """
        self._places = places
        self._read = read
        self._clock = clock
        self._counted_at = float("-inf")
        self._held: Counter[tuple[int, str]] = Counter()  # when they were counted
        self._passed: Counter[tuple[int, str]] = Counter()  # since then
        self._refused: Counter[tuple[int, str]] = Counter()

    def decide(self, request: dict[str, str]) -> str:
        """Postfix's action for a client that connects.

        Who asks for something else, or is of this host, passes.
        """
        place = place_of(request.get("client_address", ""))
        port, limit = request.get("server_port", ""), request.get("policy_context", "")
        if place is None or not (port.isdecimal() and limit.isdecimal()):
            return PASSES
        key = int(port), place.network
        if self._may_pass(key, min(int(limit), self._places())):
            self._passed[key] += 1
            return PASSES
        self._refused[key] += 1
        return replies.TOO_MANY_CONNECTIONS

    def _may_pass(self, key: tuple[int, str], limit: int) -> bool:
        """Whether one more connection is within the limit."""
        age = self._clock() - self._counted_at
        if self._held[key] >= limit:
            good_for = FULL_SECONDS
        elif self._held[key] + self._passed[key] >= limit:
            good_for = FRESH_SECONDS
        else:
            good_for = STALE_SECONDS
        if age >= good_for:
            self._count()
            self._held[key] = max(self._held[key] - 1, 0)  # who asks is connected
        return self._held[key] + self._passed[key] < limit

    def report(self) -> None:
        """Log what was refused since the last time; `chatmail_relay.status` reads it."""
        for (port, network), count in self._refused.most_common(REPORTED_MAX):
            logger.info("Refused: %d connections of %s to port %d", count, network, port)
        self._refused.clear()

    def _count(self) -> None:
        self._counted_at = self._clock()
        self._passed.clear()
        self._held.clear()
        for (port, address), number in Counter(established(self._read())).items():
            if place := place_of(address):
                self._held[port, place.network] += number


async def _request(reader: asyncio.StreamReader) -> dict[str, str]:
    """The next request: lines of name and value up to an empty one.

    :raises EOFError: there is none.
    :raises asyncio.LimitOverrunError: it is too long.
    """
    text = await reader.readuntil(b"\n\n")
    return dict(line.partition("=")[::2] for line in text.decode("utf-8", "replace").splitlines())


async def serve(shares: Shares, listener: socket.socket, stop: asyncio.Event) -> None:
    """Answer all who connect to `listener`, which is bound, until `stop` is set."""
    tasks: set[asyncio.Task] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        try:
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    request = await _request(reader)
                writer.write(f"action={shares.decide(request)}\n\n".encode())
                await writer.drain()
        except (EOFError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    async def reporting() -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            shares.report()

    server = await asyncio.start_server(connected, sock=listener, backlog=BACKLOG, limit=REQUEST_MAX)
    tasks.add(asyncio.create_task(reporting()))
    service.notify("READY=1")
    await stop.wait()
    server.close()
    shares.report()
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def _run(port: int, places: Callable[[], int]) -> None:
    try:
        listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    except OSError as error:
        raise service.StartError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from error
    await serve(Shares(places), listener, service.stop_signal())


def main() -> None:
    """Run the service ``network-share PORT QUEUE MESSAGE_SIZE``; see `service.run`."""
    parser = service.parser("Tell Postfix whose network has its share.")
    parser.add_argument("port", type=int, help="TCP port of 127.0.0.1 to listen on")
    parser.add_argument("queue", type=Path, help="directory in whose file system Postfix keeps messages")
    parser.add_argument("message_size", type=int, help="octets of the largest message")
    arguments = parser.parse_args()
    places = functools.partial(places_on_disk, arguments.queue, arguments.message_size)
    service.run(lambda: _run(arguments.port, places), sockets=0)


if __name__ == "__main__":
    main()
