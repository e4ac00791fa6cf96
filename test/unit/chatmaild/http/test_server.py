"""The HTTP server with a handler of the test's own; what is delivered by HTTP is tested with the filter."""

import asyncio
import socket
from http import HTTPStatus

from chatmaild.http.server import Request, Response, Server
from chatmaild.limits.budget import SMALL_MESSAGE, Budget

MB = 1_000_000
FLOOD = b"192.0.2.1"
SIZE = SMALL_MESSAGE + MB


async def post(port: int, client: bytes) -> bytes:
    """Send a body as nginx does for `client`; returns the response's first line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nX-Real-IP: %b\r\nContent-Length: %d\r\n\r\n" % (client, SIZE)
    writer.write(head + bytes(SIZE))
    answer = await reader.readline()
    writer.close()
    return answer


def test_a_network_that_sends_many_large_bodies_keeps_no_other_waiting():
    async def scenario():
        release, stop = asyncio.Event(), asyncio.Event()

        async def handler(request: Request) -> Response:
            if request.values(b"x-real-ip") == [FLOOD]:
                await release.wait()
            return Response(HTTPStatus.OK, "250 OK")

        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        serving = asyncio.create_task(Server(handler, 2 * SIZE, Budget(4 * MB, patience=10)).serve(listener, stop))
        flood = [asyncio.create_task(post(port, FLOOD)) for _ in range(5)]
        assert await post(port, b"198.51.100.1") == b"HTTP/1.1 200 OK\r\n"
        assert not any(task.done() for task in flood)
        release.set()
        assert await asyncio.gather(*flood) == [b"HTTP/1.1 200 OK\r\n"] * 5
        stop.set()
        await serving

    asyncio.run(scenario())
