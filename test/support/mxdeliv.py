"""Web servers of the tests' own, on loopback, that are relays, are none, or are hostile."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

RELAY = b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
# In the place of an answer: the server closes the connection, says nothing, sends the next without end, or slowly.
END, SILENCE = b"", b"silence"


def answer(body: bytes, status: int = 200, *headers: bytes) -> bytes:
    """An answer as a relay has it."""
    lines = [b"HTTP/1.1 %d Whatever" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


DELIVERED = answer(b"250 OK")


@dataclass(frozen=True)
class Endless:
    """An answer that begins, and goes on with one piece for ever, every so many seconds."""

    begin: bytes
    piece: bytes
    pause_s: float = 0


@dataclass
class Posted:
    """A message that was posted: header fields in lower case, and the body."""

    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for field_name, value in self.headers if field_name == name]


@dataclass
class WebServer:
    """Answers GET with ``introduction``, and POST with the next of ``answers``, the last of them for ever."""

    introduction: bytes | Endless = RELAY
    answers: list[bytes | Endless] = field(default_factory=lambda: [DELIVERED])
    posted: list[Posted] = field(default_factory=list)
    connections: int = 0
    at_once: int = 0
    at_once_max: int = 0
    hold: Callable | None = None  # awaited before each answer to POST
    port: int = 0
    writers: set = field(default_factory=set)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            with contextlib.suppress(OSError, EOFError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[:-1]
        headers = [tuple(line.split(": ", 1)) for line in lines]
        headers = [(name.lower(), value) for name, value in headers]
        reply = self.introduction
        if request.startswith("POST "):
            body = await reader.readexactly(int(dict(headers)["content-length"]))
            self.at_once += 1
            self.at_once_max = max(self.at_once, self.at_once_max)
            if self.hold:
                await self.hold()
            self.at_once -= 1
            self.posted.append(Posted(headers, body))
            reply = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(reply, Endless):
            writer.write(reply.begin)
            while True:
                writer.write(reply.piece)
                await writer.drain()
                await asyncio.sleep(reply.pause_s)
        if reply == SILENCE:
            await reader.read()
        writer.write(reply)
        await writer.drain()
        return reply not in (END, SILENCE)


@contextlib.asynccontextmanager
async def serving(server: WebServer, certificate: Path, key: Path, host: str = "127.0.0.2") -> AsyncIterator[WebServer]:
    """Let a server serve at ``host``, on a port of its own."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    listening = await asyncio.start_server(server._connected, host, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in list(server.writers):
            writer.transport.abort()
