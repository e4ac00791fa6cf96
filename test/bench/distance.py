"""TCP as it is over a distance, for kernels without netem: a proxy that lets each octet travel for a while."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence

from test.support.serving import servers

CHUNK = 65536


async def _travel(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one_way_s: float, not_before: float
) -> None:
    """Hand on what is read when it has travelled, but nothing before the loop's time `not_before`."""
    loop = asyncio.get_running_loop()
    underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        while True:
            due, data = await underway.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            writer.write(data)

    arriving = asyncio.create_task(arrive())
    data = b"?"
    while data:
        try:
            data = await reader.read(CHUNK)
        except ConnectionError:
            data = b""
        underway.put_nowait((max(loop.time() + one_way_s, not_before), data))
    await arriving


async def _connect(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int], one_way_s: float
) -> None:
    """Serve one connection. The kernel here has answered its SYN already, so the way there and back is made up for."""
    accepted = asyncio.get_running_loop().time()
    await asyncio.sleep(2 * one_way_s)
    try:
        there_reader, there_writer = await asyncio.open_connection(*target)
    except OSError:
        writer.close()
        return
    # What the server says of its own accord follows the last part of the handshake.
    greeting = accepted + 4 * one_way_s
    await asyncio.gather(
        _travel(reader, there_writer, one_way_s, accepted),
        _travel(there_reader, writer, one_way_s, greeting),
    )


@contextlib.contextmanager
def distance(address: str, target: str, ports: Sequence[int], one_way_s: float) -> Iterator[None]:
    """Let what connects to `ports` of `address`, which is this machine's, reach `target` over a distance.

    A connection begins with a handshake of one round trip, as if it were answered at the target.
    """
    listeners = [socket.create_server((address, port), backlog=100) for port in ports]

    async def start() -> list[asyncio.Server]:
        return [
            await asyncio.start_server(
                lambda reader, writer, port=port: _connect(reader, writer, (target, port), one_way_s),
                sock=listener,
            )
            for listener, port in zip(listeners, ports, strict=True)
        ]

    with servers(start):
        yield
