"""An HTTPS client for one push server: POST of a device token, connections kept for the next (RFC 9112)."""

import asyncio
import contextlib
import ssl
from urllib.parse import urlsplit

import h11

from ..http.client import HEAD_MAX, Connection

TIMEOUT = 60.0  # seconds for one push, name resolution and TLS included
IDLE_MAX = 10.0  # seconds after which an unused connection is closed
BODY_TIMEOUT = 1.0  # seconds after the head
BODY_MAX = 16384  # bytes of an answer's body; a connection with a longer one is not used again


class PushError(Exception):
    """The server did not answer as HTTP/1.1 has it."""


class PushClient:
    """Pushes to one URL; as many at once as its caller begins."""

    def __init__(self, url: str) -> None:
        """:param url: absolute ``https`` URL; the host's certificate has to be good for the system's trust store."""
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port or 443
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._host = parts.netloc.rpartition("@")[2]
        self._tls = ssl.create_default_context()
        self._idle: list[Connection] = []  # the one used last is at the end

    async def post(self, token: bytes) -> int:
        """Send `token` as the body of a request; return the answer's status code. Redirects are not followed.

        :raises PushError: the answer is no HTTP.
        :raises OSError: the server cannot be reached, its certificate is no good, or it closed the connection.
        :raises TimeoutError: (an OSError) there was no answer within `TIMEOUT`.
        """
        headers = [("Host", self._host), ("Content-Length", str(len(token)))]
        request = h11.Request(method="POST", target=self._target, headers=headers)
        async with asyncio.timeout(TIMEOUT):
            connection = self._take_idle() or Connection(*await self._connect())
            try:
                status = await connection.status(request, token)
                # The answer is known: a body that does not come, or is none, must not make it unknown again.
                with contextlib.suppress(OSError, h11.RemoteProtocolError):
                    async with asyncio.timeout(BODY_TIMEOUT):
                        await connection.body(BODY_MAX)
            except h11.RemoteProtocolError as error:
                raise PushError(f"the push server does not speak HTTP/1.1: {error}") from error
            finally:
                if connection.is_reusable():
                    connection.idle_since = asyncio.get_running_loop().time()
                    self._idle.append(connection)
                else:
                    connection.abort()
        return status

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().abort()

    def close_idle(self) -> None:
        """Close the connections that have not been used for `IDLE_MAX`."""
        limit = asyncio.get_running_loop().time() - IDLE_MAX
        while self._idle and self._idle[0].idle_since < limit:
            self._idle.pop(0).abort()

    def _take_idle(self) -> Connection | None:
        """A connection that the server has not closed, as far as one can know."""
        self.close_idle()
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
            connection.abort()
        return None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._address, ssl=self._tls, limit=HEAD_MAX)
