"""Services and servers that run within the test, in a thread of their own."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from test.support.smtp_peers import TIMEOUT_S


@contextlib.contextmanager
def _in_thread(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Run ``serve`` with an event that ends it, which is set then."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(stop),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(TIMEOUT_S)
        loop.close()


@contextlib.contextmanager
def serving(serve: Callable[[socket.socket, asyncio.Event], Coroutine[Any, Any, None]]) -> Iterator[int]:
    """Run ``serve`` with a listening socket, whose port this gives, and an event that ends it, which is set then."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        _in_thread(lambda stop: serve(listener, stop)),
    ):
        yield listener.getsockname()[1]


@contextlib.contextmanager
def servers(start: Callable[[], Coroutine[Any, Any, Sequence[asyncio.Server]]]) -> Iterator[None]:
    """Run the servers that ``start`` returns; at the end they leave whoever is connected."""

    async def serve(stop: asyncio.Event) -> None:
        async with contextlib.AsyncExitStack() as started:
            for server in await start():
                await started.enter_async_context(server)
            await stop.wait()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    with _in_thread(serve):
        yield
