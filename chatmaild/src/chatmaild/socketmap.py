"""Postfix's socketmap protocol (socketmap_table(5)): requests ``MAP KEY`` and answers, each a netstring."""

import asyncio
import contextlib
import re
import socket
from collections.abc import Awaitable, Callable, Mapping

from . import connections
from .message import address

REQUEST_MAX = 2000  # octets; a key is a domain or an address
ANSWER_MAX = 100_000  # octets, as in Postfix
NOT_FOUND = "NOTFOUND "
ASK_S = 20  # seconds for an answer

# From a key to an answer: "OK VALUE", NOT_FOUND, or "TEMP REASON".
Lookup = Callable[[str], Awaitable[str]]
Tables = Mapping[str, Lookup]


def _netstring(text: str) -> bytes:
    octets = address.encode(text)
    return b"%d:%s," % (len(octets), octets)


async def _read_netstring(reader: asyncio.StreamReader, octets_max: int) -> str:
    """The content of a netstring; octets that are no UTF-8 are kept as surrogate escapes.

    :raises ValueError: it is none, or too long.
    :raises EOFError: the peer is gone.
    """
    try:
        length = await reader.readuntil(b":")
    except asyncio.LimitOverrunError as error:
        raise ValueError("no netstring") from error
    if not re.fullmatch(rb"[0-9]{1,6}:", length) or int(length[:-1]) > octets_max:
        raise ValueError("no netstring, or one that is too long")
    content = await reader.readexactly(int(length[:-1]) + 1)
    if not content.endswith(b","):
        raise ValueError("no netstring")
    return address.decode(content[:-1])


async def serve_connection(tables: Tables, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one client until it goes away, or sends something else."""
    with contextlib.suppress(EOFError, ValueError, ConnectionError), contextlib.closing(writer):
        while True:
            name, _, key = (await _read_netstring(reader, REQUEST_MAX)).partition(" ")
            writer.write(_netstring(await tables[name](key) if name in tables else "PERM no such table"))
            await writer.drain()


async def serve(tables: Tables, listener: socket.socket, stop: asyncio.Event | None = None) -> None:
    """Answer all who connect to `listener`, until SIGTERM, SIGINT or `stop`; Postfix asks again whom that cuts off."""
    await connections.serve(
        lambda reader, writer: serve_connection(tables, reader, writer), listener, request_max=REQUEST_MAX, stop=stop
    )


async def ask(host: str, port: int, table: str, key: str, seconds: float = ASK_S) -> str:
    """What the server at `host` says of `key`; the form is that of `Lookup`.

    :raises OSError: it is away, or gives no answer within `seconds`.
    """
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(host, port, limit=ANSWER_MAX)
        with contextlib.closing(writer):
            writer.write(_netstring(f"{table} {key}"))
            try:
                return await _read_netstring(reader, ANSWER_MAX)
            except (EOFError, ValueError) as error:
                raise ConnectionResetError(f"no answer of the socketmap server at {host}:{port}") from error
