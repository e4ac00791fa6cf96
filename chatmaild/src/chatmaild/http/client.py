"""An HTTP/1.1 client's connection (RFC 9112), kept for one request after the other.

h11 speaks the protocol, asyncio carries it. aiohttp does both, but with it a service would take more memory at rest
than all the rest of it together. What a server sends is bounded here; for how long is up to the caller.
"""

import asyncio
import asyncio.sslproto

import h11

HEAD_MAX = 16384  # octets of an answer's status line and header fields
INTERIM_MAX = 10  # answers of status 1xx before the one that counts
CHUNK = 64 * 1024  # octets of a request's body that are sent at a time

# asyncio holds a buffer of 256 KiB for each TLS connection, to be quick with large answers; ours are small, and the
# connections are hundreds.
asyncio.sslproto.SSLProtocol.max_size = 16384


class Connection:
    """Carries one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.idle_since = 0.0  # loop time, seconds
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX)

    def abort(self) -> None:
        """Close the connection immediately; the server is not told."""
        self._writer.transport.abort()

    def is_closed(self) -> bool:
        """Whether the server has closed it, as far as one can know."""
        return self._reader.at_eof() or self._writer.is_closing()

    def is_reusable(self) -> bool:
        """Whether the last exchange is complete, and nothing has come beyond it."""
        return self._http.our_state is h11.IDLE and not self._http.trailing_data[0] and not self.is_closed()

    async def status(self, request: h11.Request, body: bytes | bytearray = b"") -> int:
        """Send a request and return the status code of its answer; what is in the answer has `body`.

        :raises h11.LocalProtocolError: `request` cannot be sent; nothing was.
        :raises h11.RemoteProtocolError: the answer is none, or the head of it is too long.
        :raises OSError: the connection ended before.
        """
        head = self._http.send(request)
        view = memoryview(body)
        # A small request is one packet.
        self._writer.write(head + (self._http.send(h11.Data(data=view[:CHUNK])) if body else b""))
        for start in range(CHUNK, len(body), CHUNK):
            await self._writer.drain()
            self._writer.write(self._http.send(h11.Data(data=view[start : start + CHUNK])))
        self._writer.write(self._http.send(h11.EndOfMessage()))
        await self._writer.drain()
        for _ in range(INTERIM_MAX):
            if not isinstance(answer := await self._event(), h11.InformationalResponse):
                return answer.status_code
        raise h11.RemoteProtocolError("too many interim answers")

    async def body(self, octets_max: int) -> bytes:
        """What is in the answer, or the beginning of it if it is longer; then the connection is not used again.

        :raises h11.RemoteProtocolError: it has not the form or the length that the head of the answer says.
        :raises OSError: the connection ended before.
        """
        body = b""
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > octets_max:
                return body[: octets_max + 1]
        if self._http.our_state is self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return body

    async def _event(self) -> h11.Event:
        while (event := self._next_event()) is h11.NEED_DATA:
            # Without an answer's length the end of the connection is its end, which h11 tells.
            data = await self._reader.read(HEAD_MAX)
            if not data and self._http.their_state is not h11.SEND_BODY:
                raise ConnectionResetError("the server closed the connection before its answer")
            self._http.receive_data(data)
        if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError("the server closed the connection before its answer")
        return event

    def _next_event(self) -> h11.Event:
        try:
            return self._http.next_event()
        except ValueError as error:
            # So h11 0.14 (Debian 12 and 13) takes a length of more digits than Python converts.
            raise h11.RemoteProtocolError(str(error)) from error
