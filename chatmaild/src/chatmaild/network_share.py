"""How many connections one network may have to an SMTP port, told to Postfix when a client connects.

Postfix itself counts by address (anvil(8)), of which a customer with IPv6 has as many as they like; it knows networks
since version 3.8. It asks here by the protocol of SMTPD_POLICY_README, and tells the limit as `policy_context`. What is
counted are the kernel's sockets, so nobody need tell of the end of a connection; what is remembered is who of port 443
speaks with Postfix.

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
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import NamedTuple

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
# Of the limit, what a network has however full the disk is, or all phones behind one address would share two places;
# Postfix itself refuses mail where there is no room for one message more.
LEAST_SHARE = 10
REPORT_SECONDS = 60
REPORTED_MAX = 20  # networks, those refused most often
PASSES = "DUNNO"
# nginx has browsers and IMAP clients there, too: of its connections only those count for which Postfix has asked.
MULTIPLEXED = 443
# Local and remote address and port, state: established, or closed by the client alone (proc(5), tcp_states.h).
_SOCKET = re.compile(r"^ *[0-9]+: [0-9A-F]+:([0-9A-F]{4}) ([0-9A-F]{8,32}):([0-9A-F]{4}) 0[18] ", re.MULTILINE)
_NUMBER = re.compile("[0-9]{1,9}")

logger = logging.getLogger(__name__)


def tables() -> str:
    """The kernel's TCP sockets of this host, as in proc(5)."""
    text = ""
    for name in ("tcp", "tcp6"):
        # A kernel may be without IPv6.
        with contextlib.suppress(FileNotFoundError):
            text += Path(f"/proc/self/net/{name}").read_text(encoding="ascii")
    return text


class Client(NamedTuple):
    """The remote end of a connection."""

    address: str  # as ipaddress writes it
    port: int


class Crowd(NamedTuple):
    """Whose connections count together."""

    port: int  # of this host
    network: str


def _remote_address(digits: str) -> str:
    """An address from its words, each of which is in the host's byte order."""
    words = bytes.fromhex(digits)
    octets = b"".join(int.from_bytes(words[at : at + 4], "little").to_bytes(4) for at in range(0, len(words), 4))
    return str(ipaddress.ip_address(octets))


def established(text: str, ports: Container[int]) -> Iterator[tuple[int, Client]]:
    """The local port, one of `ports`, and the client of each connection in `text`; see `tables`."""
    for match in _SOCKET.finditer(text):
        if (port := int(match[1], 16)) in ports:
            yield port, Client(_remote_address(match[2]), int(match[3], 16))


def places_on_disk(queue: Path, message_size: int) -> int:
    """For how many connections of a network there is room in the file system of `queue`.

    :param message_size: octets that each may fill.
    """
    try:
        status = os.statvfs(queue)
    except OSError as error:
        logger.error("cannot tell the room for %s: %s", queue, error.strerror)
        return sys.maxsize
    return status.f_bavail * status.f_frsize // (DISK_PARTS * message_size)


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
        self._ports: set[int] = set()  # for which Postfix asks
        self._held: defaultdict[Crowd, set[Client]] = defaultdict(set)
        self._grown: set[Crowd] = set()  # those that got more since they were counted
        self._refused: Counter[tuple[Crowd, bool]] = Counter()  # and whether the disk was the reason

    def decide(self, request: dict[str, str]) -> str:
        """Postfix's action for a client that connects.

        Who asks for something else, or is of this host, passes.
        """
        place = place_of(request.get("client_address", ""))
        numbers = [request.get(name, "") for name in ("server_port", "policy_context", "client_port")]
        if place is None or not all(_NUMBER.fullmatch(number) for number in numbers):
            return PASSES
        port, limit, client_port = map(int, numbers)
        client = Client(str(ipaddress.ip_address(request["client_address"])), client_port)
        crowd = Crowd(port, place.network)
        places = min(limit, max(self._places(), limit // LEAST_SHARE, 1))
        if self._may_pass(crowd, client, places):
            self._held[crowd].add(client)
            self._grown.add(crowd)
            return PASSES
        self._held[crowd].discard(client)
        self._refused[crowd, places < limit] += 1
        return replies.TOO_MANY_CONNECTIONS

    def _may_pass(self, crowd: Crowd, client: Client, places: int) -> bool:
        """Whether `client` has one of the places."""
        if self._others(crowd, client) < places:
            good_for = STALE_SECONDS
        else:
            good_for = FRESH_SECONDS if crowd in self._grown else FULL_SECONDS
        if self._clock() - self._counted_at >= good_for or crowd.port not in self._ports:
            self._ports.add(crowd.port)
            self._count()
        return self._others(crowd, client) < places

    def _others(self, crowd: Crowd, client: Client) -> int:
        held = self._held[crowd]
        return len(held) - (client in held)

    def report(self) -> None:
        """Log what was refused since the last time; `chatmail_relay.status` reads it."""
        for (crowd, by_disk), count in self._refused.most_common(REPORTED_MAX):
            reason = ", for the disk has little room" if by_disk else ""
            logger.info("Refused: %d connections of %s to port %d%s", count, crowd.network, crowd.port, reason)
        self._refused.clear()

    def _count(self) -> None:
        self._counted_at = self._clock()
        self._grown.clear()
        known, self._held = self._held, defaultdict(set)
        for port, client in established(self._read(), self._ports):
            if place := place_of(client.address):
                crowd = Crowd(port, place.network)
                if port != MULTIPLEXED or client in known.get(crowd, ()):
                    self._held[crowd].add(client)


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
