"""chatmaild.push.client: one push over HTTPS, to servers that answer well, badly, or not at all."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable

import pytest

from chatmaild.push import client
from chatmaild.push.client import BODY_MAX, HEAD_MAX, PushClient, PushError
from test.support.push_server import make_certificate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
END = b""  # in the place of an answer: the server closes the connection


@pytest.fixture
def post(tmp_path, monkeypatch):
    """Push a token for each answer; returns what came of each (status or error), and the number of connections."""
    certificate, key = make_certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    def run(*answers: bytes) -> tuple[list, int]:
        return asyncio.run(_pushes(tls, answers))

    return run


@contextlib.asynccontextmanager
async def _serving(tls: ssl.SSLContext, connected: Callable) -> AsyncIterator[int]:
    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]


async def _pushes(tls: ssl.SSLContext, answers: tuple[bytes, ...]) -> tuple[list, int]:
    remaining = list(answers)
    connections = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"POST /notify?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
                assert await reader.readexactly(5) == b"token"
                answer = remaining.pop(0)
                if answer == END:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()

    results = []
    async with _serving(tls, connected) as port:
        pushes = PushClient(f"https://127.0.0.1:{port}/notify?x=1")
        for _ in answers:
            try:
                results.append(await pushes.post(b"token"))
            except (PushError, OSError) as error:
                results.append(type(error))
        pushes.close()
    return results, connections


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 410 Gone\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngone\r\n0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_connection_whose_answer_is_complete_serves_the_next_push(post, answer):
    status = 200 if OK in answer else int(answer.split()[1])
    assert post(answer, OK) == ([status, 200], 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BODY_MAX + 1) + b"x" * (BODY_MAX + 1),
        OK + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
    ids=["close", "1.0", "large", "two", "chunks"],
)
def test_a_connection_with_more_or_less_than_one_answer_is_not_used_again(post, answer):
    assert post(answer, OK) == ([200, 200], 2)


def test_an_answer_counts_although_its_body_never_comes(post, monkeypatch):
    monkeypatch.setattr(client, "BODY_TIMEOUT", 0.1)
    assert post(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", OK) == ([200, 200], 2)


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example.org ESMTP\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * HEAD_MAX,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
    ],
    ids=["smtp", "http2", "status", "upgrade", "head", "lengths"],
)
def test_what_is_no_http_is_an_error_and_the_next_push_goes_on(post, answer):
    assert post(answer, OK) == ([PushError, 200], 2)


def test_a_connection_that_ends_without_an_answer_is_an_error(post):
    assert post(END, OK) == ([ConnectionResetError, 200], 2)


def test_a_server_that_is_silent_or_never_ends_its_head_is_given_up(post, monkeypatch):
    monkeypatch.setattr(client, "TIMEOUT", 0.5)
    assert post(b"HTTP/1.1 200 OK\r\n") == ([TimeoutError], 1)
