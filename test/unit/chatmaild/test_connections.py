"""A service that ends answers whom it has accepted; others wait for the next one."""

import asyncio
import socket

import pytest

from chatmaild import connections
from chatmaild.connections import Connections
from test.support import activation


async def serve_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back each line; a ``slow`` one after a while."""
    while line := await reader.readline():
        if line == b"slow\n":
            await asyncio.sleep(0.2)
        writer.write(line)
    writer.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(connections, "QUIET_SECONDS", 0.1)


@pytest.fixture
def listener(tmp_path):
    with activation.unix_listener(tmp_path / "socket") as listener:
        yield listener


def ending(listener: socket.socket, client, serve=serve_lines) -> object:
    """Run a service; `client` gets what makes it end, and a function that connects."""

    async def run():
        held = listener.dup()  # systemd's
        served = Connections(serve)
        server = await asyncio.start_unix_server(served, sock=listener)

        async def end():
            await served.drain(listener)
            server.close()

        async def connect():
            return await asyncio.open_unix_connection(held.getsockname())

        try:
            return await asyncio.wait_for(client(end, connect), 20)
        finally:
            held.close()

    return asyncio.run(run())


def test_a_request_that_takes_time_is_answered(listener):
    async def client(end, connect):
        reader, writer = await connect()
        writer.write(b"slow\n")
        await asyncio.gather(end(), asyncio.sleep(0))
        return await reader.read()

    assert ending(listener, client) == b"slow\n"


def test_whoever_has_just_connected_may_ask(listener):
    async def client(end, connect):
        # In the queue, from which asyncio takes it in the very round in which the service is told to end.
        with socket.socket(socket.AF_UNIX) as one:
            one.setblocking(False)
            one.connect(listener.getsockname())
            ended = asyncio.create_task(end())
            await asyncio.sleep(0)
            await asyncio.get_running_loop().sock_sendall(one, b"a\n")
            answered = asyncio.get_running_loop().sock_recv(one, 10)
            return await asyncio.gather(asyncio.wait_for(answered, 0.05), return_exceptions=True), await ended

    (answer,), _ = ending(listener, client)
    # Either it was accepted, and served, or it waits for the next service.
    assert answer == b"a\n" or isinstance(answer, TimeoutError)


def test_who_comes_later_waits_for_the_next_service(listener):
    async def client(end, connect):
        await end()
        reader, writer = await connect()
        writer.write(b"a\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(10), 0.1)
        next_server = await asyncio.start_unix_server(Connections(serve_lines), sock=held)
        answer = await reader.read(10)
        next_server.close()
        return answer

    held = listener.dup()
    assert ending(listener, client) == b"a\n"


def test_nobody_is_lost_between_two_services(listener):
    """Clients that connect all the time, while one service follows the other."""

    async def ask(connect):
        reader, writer = await connect()
        writer.write(b"a\n")
        answer = await reader.readline()
        writer.close()
        return answer

    async def client(end, connect):
        ended = asyncio.create_task(end())
        asked = []
        while not ended.done():
            asked.append(asyncio.create_task(ask(connect)))
            await asyncio.sleep(0.001)
        next_server = await asyncio.start_unix_server(Connections(serve_lines), sock=held)
        answers = await asyncio.gather(*asked)
        next_server.close()
        return answers

    held = listener.dup()
    answers = ending(listener, client)
    assert answers == [b"a\n"] * len(answers)


def test_a_silent_client_does_not_hold_up_the_end(listener):
    async def client(end, connect):
        reader, _writer = await connect()
        await asyncio.sleep(0.05)
        await end()
        return await reader.read()

    assert ending(listener, client) == b""


def test_a_request_without_end_is_given_up(listener, monkeypatch):
    monkeypatch.setattr(connections, "DRAIN_SECONDS", 0.1)

    async def forever(reader, writer):
        await asyncio.Event().wait()

    async def client(end, connect):
        await connect()
        await asyncio.sleep(0.05)
        await end()
        return "ended"

    assert ending(listener, client, forever) == "ended"
