"""How many pushes a second chatmail-metadata makes to a server that answers after 100 ms: python -m test.bench.notifier

The reference is a bare aiohttp client without queue files that posts the same tokens to the same server, in the same
run and with as many connections.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from test.support import activation
from test.support.push_server import PushServer
from test.support.service_settings import write_settings

SOURCE = Path(__file__).parents[2] / "chatmaild/src"
DOMAIN = "chat.example.org"
ANSWER_DELAY = 0.1  # seconds
RATE = 200  # pushes a second
STEADY = 20  # seconds
ADDRESSES = 200
BURST = 4000  # pushes
CONNECTIONS = 300  # as many as the service has first tries at once


@contextlib.contextmanager
def running(scratch: Path, server: PushServer) -> Iterator[subprocess.Popen]:
    """The service, with a settings file in `scratch`."""
    (scratch / "mail").mkdir()
    settings = write_settings(
        scratch / "metadata.toml", mail_domain=DOMAIN, mailboxes_dir=scratch / "mail", notification_url=server.url
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        manager.bind(str(scratch / "notify"))
        process = activation.start(
            [sys.executable, "-m", "chatmaild.metadata", settings],
            [activation.unix_listener(scratch / "socket")],
            os.environ
            | {
                "PYTHONPATH": str(SOURCE),
                "MALLOC_ARENA_MAX": "1",  # as its unit has it
                "NOTIFY_SOCKET": str(scratch / "notify"),
                "SSL_CERT_FILE": str(server.certificate),
            },
        )
        try:
            manager.recv(100)
            yield process
        finally:
            process.terminate()
            process.wait()


def address(number: int) -> str:
    return f"user{number:05}@{DOMAIN}"


def set_entry(connection: socket.socket, number: int, entry: str, value: str) -> None:
    connection.sendall(f"B1\t{address(number)}\nS1\tpriv/1/{entry}\t{value}\nC1\n".encode())
    if (answer := connection.recv(4096)) != b"O\n":
        sys.exit(f"{entry} was answered with {answer!r}")


def resident_memory_mb(process: subprocess.Popen) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def wait_until_empty(queue: Path) -> None:
    while any(queue.iterdir()):
        time.sleep(0.02)


def steady(connection: socket.socket, arrived: dict[str, list[float]]) -> list[float]:
    """Messages at `RATE`; returns for each push the seconds from Dovecot's request to its arrival."""
    sent: dict[str, list[float]] = {}
    begin = time.monotonic()
    for number in range(RATE * STEADY):
        time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
        sent.setdefault(f"token{number % ADDRESSES}", []).append(time.monotonic())
        set_entry(connection, number % ADDRESSES, "messagenew", "")
    while sum(map(len, arrived.values())) < RATE * STEADY:
        time.sleep(0.02)
    return [there - here for token in sent for here, there in zip(sent[token], arrived[token], strict=True)]


async def reference(server: PushServer) -> float:
    """Pushes a second of a bare aiohttp client."""
    tls = ssl.create_default_context(cafile=server.certificate)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=tls)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def push(number: int) -> None:
            async with session.post(server.url, data=f"token{number % ADDRESSES}".encode()) as answer:
                await answer.read()

        begin = time.perf_counter()
        await asyncio.gather(*(push(number) for number in range(BURST)))
        return BURST / (time.perf_counter() - begin)


def main() -> None:
    arrived: dict[str, list[float]] = {}

    def arrival(body: bytes) -> int:
        arrived.setdefault(body.decode(), []).append(time.monotonic())
        return 200

    with tempfile.TemporaryDirectory() as directory, PushServer(Path(directory)) as server:
        server.delay, server.status_of = ANSWER_DELAY, arrival
        with running(Path(directory), server) as process, socket.socket(socket.AF_UNIX) as connection:
            queue = Path(directory) / "mail/pending_notifications"
            connection.connect(f"{directory}/socket")
            print(f"{'resident memory at rest':50} {resident_memory_mb(process):8.1f} MB")
            for number in range(ADDRESSES):
                set_entry(connection, number, "devicetoken", f"token{number}")

            delays = steady(connection, arrived)
            wait_until_empty(queue)
            print(
                f"{f'at {RATE} messages a second for {STEADY} s: median':50} {statistics.median(delays) * 1e3:8.1f} ms"
            )
            print(f"{'    99 of 100 within':50} {statistics.quantiles(delays, n=100)[98] * 1e3:8.1f} ms")
            print(f"{'    resident memory then':50} {resident_memory_mb(process):8.1f} MB")

            for _ in range(3):
                begin = time.perf_counter()
                for number in range(BURST):
                    set_entry(connection, number % ADDRESSES, "messagenew", "")
                wait_until_empty(queue)
                rate = BURST / (time.perf_counter() - begin)
                bare = asyncio.run(reference(server))
                print(f"{f'{BURST} pushes as fast as they go':50} {rate:8.0f} /s")
                print(f"{'    bare aiohttp client, no queue files':50} {bare:8.0f} /s, ratio {rate / bare:.2f}")
                print(f"{'    resident memory then':50} {resident_memory_mb(process):8.1f} MB")
            time.sleep(22)
            print(f"{'    22 s later, connections closed':50} {resident_memory_mb(process):8.1f} MB")


if __name__ == "__main__":
    main()
