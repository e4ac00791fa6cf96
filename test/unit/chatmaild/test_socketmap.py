"""Postfix's socketmap protocol."""

import asyncio

import pytest

from chatmaild import socketmap


async def echo(key: str) -> str:
    return f"OK {key}"


def converse(request: bytes) -> bytes:
    """What is answered to one connection, until the service closes it."""

    async def run() -> bytes:
        done = asyncio.Event()

        async def serve(reader, writer):
            await socketmap.serve_connection({"echo": echo}, reader, writer)
            done.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=1000) as service:
            reader, writer = await asyncio.open_connection(*service.sockets[0].getsockname())
            writer.write(request)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 20)
            await asyncio.wait_for(done.wait(), 20)
            writer.close()
        return answer

    return asyncio.run(run())


def test_requests_of_one_connection_are_answered_in_turn():
    assert converse(b"6:echo a,8:echo b c,6:echo \xff,5:other,") == b"4:OK a,6:OK b c,4:OK \xff,18:PERM no such table,"


@pytest.mark.parametrize(
    "request_", [b"", b"hello\n", b"x" * 5000, b"9999:", b"9999999:x", b"-1:x", b"6:echo a!", b":,", b"10:echo"]
)
def test_what_is_no_request_ends_the_connection(request_):
    assert converse(request_) == b""


@pytest.mark.parametrize("answer", [b"", b"hello", b"4:OK a", b"9999999:OK", b"4:OK a;"])
def test_an_answer_that_is_none_is_as_none_at_all(answer):
    async def run() -> str:
        async def serve(reader, writer):
            await reader.readuntil(b",")
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as service:
            return await socketmap.ask(*service.sockets[0].getsockname(), "echo", "a")

    with pytest.raises(OSError):
        asyncio.run(run())
