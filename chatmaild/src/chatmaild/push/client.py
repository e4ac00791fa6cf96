"""An HTTPS client for one push server: POST of a device token, connections kept for the next (RFC 9112).

aiohttp does this too, but with it the service would take more memory at rest than all the rest of it together.
"""

import asyncio
import asyncio.sslproto
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT = 60.0  # seconds for one push, name resolution and TLS included
IDLE_MAX = 10.0  # seconds after which an unused connection is closed
HEAD_MAX = 16384  # bytes of an answer's status line and header fields
BODY_TIMEOUT = 1.0  # seconds after the head
BODY_MAX = 16384  # bytes of an answer's body; a connection with a longer one is not used again

# asyncio holds a buffer of 256 KiB for each TLS connection, to be quick with large answers; ours are small, and the
# connections are hundreds.
asyncio.sslproto.SSLProtocol.max_size = 16384


class PushError(Exception):
    """The server did not answer as HTTP/1.1 has it."""


@dataclass(frozen=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0.0  # loop time, seconds


class PushClient:
    """Pushes to one URL; as many at once as its caller begins."""

    def __init__(self, url: str) -> None:
        """:param url: absolute ``https`` URL; the host's certificate has to be good for the system's trust store."""
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port or 443
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        self._head = f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: ".encode()
        self._tls = ssl.create_default_context()
        self._idle: list[_Connection] = []  # the one used last is at the end

    async def post(self, token: bytes) -> int:
        """Send `token` as the body of a request; return the answer's status code. Redirects are not followed.

        :raises PushError: the answer is no HTTP.
        :raises OSError: the server cannot be reached, its certificate is no good, or it closed the connection.
        :raises TimeoutError: (an OSError) there was no answer within `TIMEOUT`.
        """
        async with asyncio.timeout(TIMEOUT):
            connection = self._take_idle() or await self._connect()
            reusable = False
            try:
                connection.writer.write(self._head + b"%d\r\n\r\n" % len(token) + token)
                await connection.writer.drain()
                status, reusable = await _read_answer(connection.reader)
            finally:
                if reusable:
                    now = asyncio.get_running_loop().time()
                    self._idle.append(_Connection(connection.reader, connection.writer, now))
                else:
                    connection.writer.transport.abort()
        return status

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().writer.transport.abort()

    def close_idle(self) -> None:
        """Close the connections that have not been used for `IDLE_MAX`."""
        limit = asyncio.get_running_loop().time() - IDLE_MAX
        while self._idle and self._idle[0].idle_since < limit:
            self._idle.pop(0).writer.transport.abort()

    def _take_idle(self) -> _Connection | None:
        """A connection that the server has not closed, as far as one can know."""
        self.close_idle()
        while self._idle:
            connection = self._idle.pop()
            if not (connection.reader.at_eof() or connection.writer.is_closing()):
                return connection
            connection.writer.transport.abort()
        return None

    async def _connect(self) -> _Connection:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=HEAD_MAX)
        return _Connection(reader, writer)


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read one answer; return its status code, and whether the connection can be used again."""
    try:
        status, fields = 100, {}
        while 100 <= status < 200:
            status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            version, _, rest = status_line.partition(" ")
            if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isascii() or not rest[:3].isdigit():
                raise PushError("the push server does not speak HTTP/1.1")
            status = int(rest[:3])
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if status == 101:
                raise PushError("the push server wants another protocol")
        length = fields.get("content-length", "0" if status == 204 else "")
        reusable = (
            version == "HTTP/1.1"
            and "close" not in fields.get("connection", "").lower()
            and "transfer-encoding" not in fields
            and length.isascii()
            and length.isdigit()
            and len(length) < 10
            and int(length) <= BODY_MAX
        )
    except asyncio.LimitOverrunError as error:
        raise PushError(f"the head of the push server's answer is longer than {HEAD_MAX} bytes") from error
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the push server closed the connection before it answered") from error
    if reusable:
        # The answer is known: a body that does not come must not make it unknown again.
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                await reader.readexactly(int(length))
        except (OSError, asyncio.IncompleteReadError):
            reusable = False
    return status, reusable
