"""An HTTPS client for one push server: POST of a device token, connections kept for the next (RFC 9112).

h11 speaks the protocol, asyncio carries it. aiohttp does both, but with it the service would take more memory at rest
than all the rest of it together.
"""

import asyncio
import asyncio.sslproto
import contextlib
import ssl
from urllib.parse import urlsplit

import h11

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


class PushClient:
    """Pushes to one URL; as many at once as its caller begins."""

    def __init__(self, url: str) -> None:
        """:param url: absolute ``https`` URL; the host's certificate has to be good for the system's trust store."""
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port or 443
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._host = parts.netloc.rpartition("@")[2]
        self._tls = ssl.create_default_context()
        self._idle: list[_Connection] = []  # the one used last is at the end

    async def post(self, token: bytes) -> int:
        """Send `token` as the body of a request; return the answer's status code. Redirects are not followed.

        :raises PushError: the answer is no HTTP.
        :raises OSError: the server cannot be reached, its certificate is no good, or it closed the connection.
        :raises TimeoutError: (an OSError) there was no answer within `TIMEOUT`.
        """
        headers = [("Host", self._host), ("Content-Length", str(len(token)))]
        request = h11.Request(method="POST", target=self._target, headers=headers)
        async with asyncio.timeout(TIMEOUT):
            connection = self._take_idle() or _Connection(*await self._connect())
            try:
                status = await connection.exchange(request, token)
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

    def _take_idle(self) -> "_Connection | None":
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


class _Connection:
    """Carries one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.idle_since = 0.0  # loop time, seconds
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX)

    def abort(self) -> None:
        self._writer.transport.abort()

    def is_closed(self) -> bool:
        return self._reader.at_eof() or self._writer.is_closing()

    def is_reusable(self) -> bool:
        """Whether the last exchange is complete, and nothing has come beyond it."""
        return self._http.our_state is h11.IDLE and not self._http.trailing_data[0]

    async def exchange(self, request: h11.Request, body: bytes) -> int:
        """Send a request and return the status code of its answer.

        :raises h11.RemoteProtocolError: the answer is none, or the head of it is too long.
        :raises OSError: the connection ended before.
        """
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        self._writer.write(b"".join(self._http.send(event) for event in events))
        await self._writer.drain()
        while isinstance(answer := await self._event(), h11.InformationalResponse):
            pass
        # The answer is known: a body that does not come, or is none, must not make it unknown again.
        with contextlib.suppress(OSError, h11.RemoteProtocolError):
            async with asyncio.timeout(BODY_TIMEOUT):
                await self._skip_body()
        return answer.status_code

    async def _skip_body(self) -> None:
        length = 0
        while isinstance(event := await self._event(), h11.Data):
            length += len(event.data)
            if length > BODY_MAX:
                return
        if self._http.our_state is self._http.their_state is h11.DONE:
            self._http.start_next_cycle()

    async def _event(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(HEAD_MAX)
            if not data:
                raise ConnectionResetError("the push server closed the connection within its answer, or before")
            self._http.receive_data(data)
        return event
