"""Mail servers that take no mail, each in a way of its own, and hold on to whoever tries."""

import asyncio
import contextlib
import itertools
import socket
import ssl
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path

from test.lab import Host, Lab
from test.lab.networks import elsewhere
from test.support.certificates import self_signed
from test.support.serving import servers

PORT = 25

Session = Callable[[asyncio.StreamReader, asyncio.StreamWriter, ssl.SSLContext], Coroutine]


async def for_ever() -> None:
    await asyncio.Event().wait()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLContext) -> None:
    """Up to the second EHLO, with TLS."""
    await _plain(reader, writer)
    await writer.start_tls(tls)
    await reader.readline()
    writer.write(b"250 dead.test\r\n")


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 dead.test ESMTP\r\n")
    await reader.readline()
    writer.write(b"250-dead.test\r\n250 STARTTLS\r\n")
    await reader.readline()
    writer.write(b"220 go on\r\n")


async def silent(reader, writer, tls) -> None:
    """Says nothing after it has accepted the connection."""
    await for_ever()


async def silent_after_data(reader, writer, tls) -> None:
    """Takes a message, and never says so."""
    await greet(reader, writer, tls)
    for _ in range(2):
        await reader.readline()
        writer.write(b"250 OK\r\n")
    await reader.readline()
    writer.write(b"354 go on\r\n")
    await for_ever()


async def slow(reader, writer, tls) -> None:
    """Answers an octet a second."""
    for octet in itertools.chain(b"220 ", itertools.repeat(ord("-"))):
        writer.write(bytes([octet]))
        await writer.drain()
        await asyncio.sleep(1)


async def endless_handshake(reader, writer, tls) -> None:
    """Agrees to TLS and never begins."""
    await _plain(reader, writer)
    await for_ever()


SESSIONS: dict[str, Session] = {
    "silent": silent,
    "silent after DATA": silent_after_data,
    "an octet a second": slow,
    "endless TLS handshake": endless_handshake,
}
# Those that no server is needed for: one has no listener, and the queue of the other is full (listen(2)).
SORTS = ["refusing", "black hole", *SESSIONS]


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        pem = Path(directory, "pem")
        pem.write_bytes(self_signed("dead.test")[1])
        context.load_cert_chain(pem)
    return context


@contextlib.contextmanager
def dead_domains(lab: Lab, host: Host, networks: int, each: int) -> Iterator[list[str]]:
    """Give `host` domains whose mail servers are dead, of all sorts in turn; `each` of them in as many networks.

    Their names begin with an underscore, so nobody asks for certificates.
    """
    with elsewhere([host], networks, each) as addresses, dead_servers(addresses):
        domains = {f"_dead{number}.test": address for number, address in enumerate(addresses)}
        for domain, address in domains.items():
            lab.publish(domain, "A", [address])
        try:
            yield list(domains)
        finally:
            for domain in domains:
                lab.withdraw(domain)


@contextlib.contextmanager
def dead_servers(addresses: Sequence[str]) -> Iterator[None]:
    """Let each address be a dead mail server, all sorts in turn."""
    sorts = dict(zip(addresses, itertools.cycle(SORTS), strict=False))
    tls = _tls()
    with contextlib.ExitStack() as sockets:
        for address in (address for address, sort in sorts.items() if sort == "black hole"):
            listener = socket.create_server((address, PORT), backlog=0)
            sockets.enter_context(listener)
            # Who connects after these is not answered.
            for _ in range(2):
                filler = sockets.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex((address, PORT))

        async def start() -> list[asyncio.Server]:
            return [
                await asyncio.start_server(_session(session, tls), address, PORT)
                for address, sort in sorts.items()
                if (session := SESSIONS.get(sort))
            ]

        with servers(start):
            yield


def _session(session: Session, tls: ssl.SSLContext) -> Callable:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError), contextlib.closing(writer):
            await session(reader, writer, tls)

    return serve
