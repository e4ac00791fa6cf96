"""A service of ours that runs within the test, in a thread of its own."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from test.support.smtp_peers import TIMEOUT_S


@contextlib.contextmanager
def serving(serve: Callable[[socket.socket, asyncio.Event], Coroutine[Any, Any, None]]) -> Iterator[int]:
    """Run ``serve`` with a listening socket, whose port this gives, and an event that ends it, which is set then."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=loop.run_until_complete, args=(serve(listener, stop),))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(TIMEOUT_S)
            loop.close()
