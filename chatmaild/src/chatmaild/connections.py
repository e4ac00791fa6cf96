"""Connections to a service that ends: who was accepted gets an answer, who comes later waits for the next process.

systemd holds the listening sockets (`service.listening_sockets`), so between two processes nobody is refused.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from . import service

BACKLOG = 4096  # connections not yet accepted, also those that wait for a restart; net.core.somaxconn of Linux
# asyncio's `backlog` is also how often it tries to accept before anything else is done, even without a descriptor left.
ACCEPT_AT_ONCE = 64
QUIET_SECONDS = 2  # in which a client that has connected asks for something, or goes
DRAIN_SECONDS = 10  # for answers that take time

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def stop_accepting(listener: socket.socket) -> None:
    """Leave connections that come from now on in the queue of `listener`, which an asyncio server uses.

    ``Server.close()`` alone loses those that asyncio has accepted in this very moment.
    """
    asyncio.get_running_loop().remove_reader(listener)
    # asyncio makes a connection of what it has accepted, and calls whoever serves it, within three rounds of its loop.
    for _ in range(4):
        await asyncio.sleep(0)


class Connections:
    """The connections of a service that answers requests; to be given to ``asyncio.start_server``."""

    def __init__(self, serve: Answer) -> None:
        """:param serve: answers the requests of one connection until there are no more, and closes it."""
        self._serve = serve
        self._open: dict[asyncio.Task, asyncio.StreamWriter] = {}

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        self._open[task] = writer
        try:
            await self._serve(reader, writer)
        finally:
            del self._open[task]

    async def drain(self, listener: socket.socket) -> None:
        """Accept no more from `listener`, and answer what is asked, in bounded time."""
        await stop_accepting(listener)
        await self._wait(QUIET_SECONDS)
        for writer in self._open.values():
            # What has been sent can still be read. A client that sends more is told so (EPIPE, on a unix socket).
            with contextlib.suppress(OSError):  # it has gone itself
                writer.get_extra_info("socket").shutdown(socket.SHUT_RD)
        await self._wait(DRAIN_SECONDS)

    async def _wait(self, seconds: float) -> None:
        if self._open:
            await asyncio.wait(self._open, timeout=seconds)


async def serve(
    answer: Answer, listener: socket.socket, *, request_max: int, stop: asyncio.Event | None = None
) -> None:
    """Serve all who connect to `listener` until SIGTERM or SIGINT; what has been asked until then is answered.

    :param answer: see `Connections`.
    :param request_max: octets that a client may send for one request.
    :param stop: ends it in the place of the signals, where a service has more to serve.
    """
    connections = Connections(answer)
    # Not start_unix_server: from Python 3.13 on it removes the socket at its end, which is systemd's.
    server = await asyncio.start_server(connections, sock=listener, limit=request_max, backlog=ACCEPT_AT_ONCE)
    listener.listen(BACKLOG)
    await (stop.wait() if stop else service.until_stopped())
    await connections.drain(listener)
    server.close()
