"""Handing one message to the next mail server over plain SMTP (RFC 5321), bytes unchanged.

`data` is sent as it is, so it must be dot-stuffed and free of stray CR and LF.
"""

import asyncio
import ipaddress
import re
from dataclasses import dataclass

from .. import ip_address
from ..message import address
from . import replies

CONNECT_SECONDS = 60
# Bounds all steps together; who waits for the filter's answer has waited for memory already.
TOTAL_SECONDS = 90
REPLY_LINES_MAX = 100
CHUNK = 64 * 1024  # octets

_REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\r\n]*))?\r?\n")


class DeliveryFailed(Exception):
    """The message was not taken; the text is an SMTP reply for the client, 4xx or 5xx."""


@dataclass
class Envelope:
    """Who sends to whom (RFC 5321 section 2.3.1); addresses as they were written, the null sender is empty."""

    sender: str
    recipients: list[str]
    client: ip_address.Address | None = None  # where it comes from, as far as that is known


@dataclass(frozen=True)
class Destination:
    """A mail server: IP address and port, and the name by which to greet it."""

    host: str
    port: int
    greeting: str


@dataclass(frozen=True)
class Reply:
    """An answer: its code, and the text of all its lines in one."""

    code: int
    text: str


def address_literal(host: str) -> str:
    """An IP address as EHLO argument (RFC 5321 section 4.1.3)."""
    return f"[IPv6:{host}]" if ipaddress.ip_address(host).version == 6 else f"[{host}]"


async def send(destination: Destination, envelope: Envelope, data: bytes | bytearray) -> None:
    """Deliver `data` to every recipient of `envelope`, or to none.

    :param data: the message, dot-stuffed, without the final dot.
    :raises DeliveryFailed: any step got another answer than success, or none in time.
    """
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            connection = await _connect(destination)
            try:
                await connection.deliver(destination.greeting, envelope, data)
            finally:
                connection.close()
    except (ConnectionError, TimeoutError) as error:
        raise DeliveryFailed(replies.IO_ERROR) from error


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Read a reply of one or more lines (RFC 5321 section 4.2.1).

    :raises ConnectionError: there is none, or it is longer than `REPLY_LINES_MAX`.
    """
    texts = []
    for _ in range(REPLY_LINES_MAX):
        try:
            line = await reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionResetError("no complete reply") from error
        match = _REPLY_LINE.fullmatch(line)
        if not match:
            break
        texts.append((match[3] or b"").decode("ascii", "replace").strip())
        if match[2] != b"-":
            return Reply(int(match[1]), " ".join(texts))
    raise ConnectionResetError("not an SMTP reply")


async def _connect(destination: Destination) -> "_Connection":
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(destination.host, destination.port)
    except OSError as error:
        raise DeliveryFailed(replies.CANNOT_CONNECT) from error
    return _Connection(destination.host, reader, writer)


class _Connection:
    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer
        self._pipelining = False

    def close(self) -> None:
        self._writer.close()

    async def deliver(self, greeting: str, envelope: Envelope, data: bytes | bytearray) -> None:
        await self._expect(220)
        extensions = await self._command(250, f"EHLO {greeting}")
        self._pipelining = "PIPELINING" in extensions.text.upper().split()
        # DATA is not sent in one go with RCPT (RFC 2920 would allow it): if one recipient is refused and others are
        # not, the server would wait for a message, and ending it with a dot would deliver an empty one.
        await self._commands(
            250, [f"MAIL FROM:<{envelope.sender}>", *(f"RCPT TO:<{to}>" for to in envelope.recipients)]
        )
        await self._command(354, "DATA")
        view = memoryview(data)
        for start in range(0, len(data), CHUNK):
            await self._write(view[start : start + CHUNK])
        await self._write(b".\r\n")
        await self._expect(250)
        # The answer to QUIT matters to nobody, so it is not waited for.
        self._writer.write(b"QUIT\r\n")

    async def _commands(self, code: int, lines: list[str]) -> None:
        if not self._pipelining:
            for line in lines:
                await self._command(code, line)
            return
        await self._write(b"".join(address.encode(line) + b"\r\n" for line in lines))
        replies = [await read_reply(self._reader) for _ in lines]
        for reply in replies:
            self._check(code, reply)

    async def _command(self, code: int, line: str) -> Reply:
        await self._write(address.encode(line) + b"\r\n")
        return await self._expect(code)

    async def _write(self, octets: bytes | memoryview) -> None:
        self._writer.write(octets)
        await self._writer.drain()

    async def _expect(self, code: int) -> Reply:
        reply = await read_reply(self._reader)
        self._check(code, reply)
        return reply

    def _check(self, code: int, reply: Reply) -> None:
        if reply.code == code:
            return
        if reply.code < 400:
            raise DeliveryFailed(replies.LOCAL_ERROR)  # not what was asked for, and no refusal that could be passed on
        raise DeliveryFailed(replies.forwarded(reply.code, reply.text, self._host))
