"""What Postfix hears of the way of mail while chatmail-transport fails, and for how long."""

import asyncio
import os
import signal
import socket

import pytest

from chatmaild import socketmap, transport_fallback


@pytest.mark.parametrize(
    "key, answer", [("bob@relay.example", "OK smtp:"), ("relay.example", "NOTFOUND "), ("*", "NOTFOUND ")]
)
def test_mail_goes_by_smtp(key, answer):
    async def ask() -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(transport_fallback.run(listener, 60))
        try:
            return await socketmap.ask(*listener.getsockname(), "route", key)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            assert await serving is False

    assert asyncio.run(ask()) == answer


def test_it_ends_when_its_time_is_over():
    assert asyncio.run(transport_fallback.run(socket.create_server(("127.0.0.1", 0)), 0)) is True
