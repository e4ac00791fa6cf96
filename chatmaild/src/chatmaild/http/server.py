"""A small HTTP/1.1 server (RFC 9112) behind nginx: h11 speaks the protocol, asyncio carries it.

Requests follow each other on a connection; a body is kept in memory as a whole, within the budget that large messages
share. Time and the number of connections are bounded, whatever the peer does.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from ..connections import ACCEPT_AT_ONCE, BACKLOG, DRAIN_SECONDS, stop_accepting
from ..limits.budget import Budget, Reservation
from ..limits.rate_limit import place_of
from ..smtp import replies

HEADERS_MAX = 64 * 1024  # octets of a request before its body; a thousand recipients fit
READ_SECONDS = 60  # for a peer that is silent, within a request or between two
REQUEST_SECONDS = 300  # until a request has arrived; nginx hands it on when it is complete
CONNECTIONS_MAX = 200
CHUNK = 64 * 1024  # octets
LINGER_SECONDS = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What a client wants. Names of header fields are in lower case, their order is kept."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytearray

    def values(self, name: bytes) -> list[bytes]:
        """The values of all fields called `name` (lower case)."""
        return [value for field, value in self.headers if field == name]


@dataclass(frozen=True)
class Response:
    """What it gets. The length is added."""

    status: HTTPStatus
    body: str
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/plain; charset=utf-8"),)


Handler = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """A request is not read to its end; the connection ends with the response."""

    def __init__(self, response: Response) -> None:
        self.response = response


class Server:
    """Listens and serves connections until told to stop."""

    def __init__(self, handler: Handler, max_body: int, budget: Budget | None = None) -> None:
        """Set up, without listening yet.

        :param handler: what to do with a request.
        :param max_body: octets of a request's body; more is answered with 413.
        :param budget: memory for large bodies, shared with others; None where there are no large ones.
        """
        self._handler = handler
        self._max_body = max_body
        self._budget = budget or Budget(max_body)
        self._connections: set[asyncio.Task] = set()
        self._draining = False

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve on `listener`, which is bound, until `stop` is set; then let requests end, in bounded time."""
        server = await asyncio.start_server(self._connected, sock=listener, backlog=ACCEPT_AT_ONCE, limit=CHUNK)
        listener.listen(BACKLOG)
        await stop.wait()
        self._draining = True
        await stop_accepting(listener)
        if self._connections:
            _done, pending = await asyncio.wait(self._connections, timeout=DRAIN_SECONDS)
            for connection in pending:
                connection.cancel()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            with contextlib.suppress(ConnectionError, TimeoutError):
                if len(self._connections) > CONNECTIONS_MAX:
                    await _Connection(reader, writer).respond(
                        Response(HTTPStatus.SERVICE_UNAVAILABLE, "Too many at a time")
                    )
                else:
                    await self._dialogue(_Connection(reader, writer))
        finally:
            self._connections.discard(task)
            writer.close()

    async def _dialogue(self, connection: "_Connection") -> None:
        while True:
            with self._budget.reservation() as reservation:
                try:
                    async with asyncio.timeout(REQUEST_SECONDS):
                        request = await connection.request(self._max_body, reservation)
                    if request is None:
                        return
                    response = await self._handle(request)
                except _Refused as refused:
                    await connection.respond(refused.response)
                    await connection.linger()
                    return
                except h11.RemoteProtocolError as error:
                    if connection.may_respond():
                        await connection.respond(Response(HTTPStatus(error.error_status_hint), "Not understood"))
                    return
            await connection.respond(response)
            if self._draining or not connection.next_cycle():
                return

    async def _handle(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except Exception as error:  # a fault of ours must look like one, so that the client tries again
            logger.error("a request failed", exc_info=error)
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR, replies.LOCAL_ERROR)


class _Connection:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._state = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADERS_MAX)

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._state.next_event()) is h11.NEED_DATA:
            if self._state.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            async with asyncio.timeout(READ_SECONDS):
                self._state.receive_data(await self._reader.read(CHUNK))
        return event

    async def _send(self, *events: h11.Event) -> None:
        self._writer.write(b"".join(self._state.send(event) or b"" for event in events))
        async with asyncio.timeout(READ_SECONDS):
            await self._writer.drain()

    async def request(self, max_body: int, reservation: Reservation) -> Request | None:
        """Read the next request; None at the end of the connection.

        :raises _Refused: its body is too large, or has no room now.
        :raises h11.RemoteProtocolError: it is no HTTP.
        :raises TimeoutError: the client is silent for too long.
        """
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        headers = list(head.headers)
        # nginx sets it, whatever the client says.
        place = place_of(dict(headers).get(b"x-real-ip", b"").decode("ascii", "replace"))
        reservation.network = place.network if place else ""
        length = int(dict(headers).get(b"content-length", b"0"))  # h11 has checked that it is one number
        body = bytearray()
        if length > max_body:
            raise _Refused(Response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, replies.TOO_LARGE))
        if not await reservation.cover(length):
            raise _Refused(Response(HTTPStatus.SERVICE_UNAVAILABLE, replies.NO_ROOM))
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > max_body:
                raise _Refused(Response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, replies.TOO_LARGE))
            if not await reservation.cover(len(body), max_body):
                raise _Refused(Response(HTTPStatus.SERVICE_UNAVAILABLE, replies.NO_ROOM))
        return Request(head.method.decode(), head.target.decode(), headers, body)

    def may_respond(self) -> bool:
        """Whether a response can still be sent."""
        return self._state.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    async def respond(self, response: Response) -> None:
        """Send the response."""
        body = response.body.encode()
        headers = [*response.headers, ("Content-Length", str(len(body)))]
        head = h11.Response(status_code=response.status.value, reason=response.status.phrase.encode(), headers=headers)
        await self._send(head, h11.Data(data=body), h11.EndOfMessage())

    def next_cycle(self) -> bool:
        """Make ready for another request; False if this was the last."""
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        return True

    async def linger(self) -> None:
        """Let the client read the response: closing with unread input would reset the connection before it can."""
        self._writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._reader.read(CHUNK):
                    pass
