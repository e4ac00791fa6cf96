"""How many lookups doveauth answers, beside a server that only echoes, and how many addresses it creates.

python -m test.bench.doveauth; both servers run on one core, the clients on the others. Rounds alternate between the
servers, so that both see the same machine. By processor time is what a core does that has nothing else to do.
"""

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from test.support import activation
from test.support.service_settings import write_settings

SOURCE = Path(__file__).parents[2] / "chatmaild/src"
DOMAIN = "chat.example.org"
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[-1]
LOOKUP = f"Lshared/userdb/user12345@{DOMAIN}\n".encode()
LOOKUPS = 20000  # a round
ROUNDS = 5
# The least that any server of Dovecot's dict protocol does in Python: read a line, write a line.
ECHO_SERVER = """
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print(flush=True)
while True:
    connection, _ = server.accept()
    while line := connection.recv(4096):
        connection.sendall(line)
"""
SETTINGS = {
    "mail_domain": DOMAIN,
    "max_load_1m": 99999,
    "min_available_memory": 0,
    "min_free_disk_space": 0,
    "max_creations_per_hour": 100000,
}


@contextlib.contextmanager
def running_echo(path: Path):
    """Run the echo server on the socket `path`."""
    process = subprocess.Popen([sys.executable, "-c", ECHO_SERVER, path], stdout=subprocess.PIPE)
    try:
        os.sched_setaffinity(process.pid, [SERVER_CORE])
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def running(scratch: Path):
    """Run the service; yields its process and its socket."""
    settings = write_settings(scratch / "doveauth.toml", mailboxes_dir=scratch / "mail", **SETTINGS)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(scratch / "notify"))
        process = activation.start(
            [sys.executable, "-m", "chatmaild.doveauth", settings],
            [activation.unix_listener(scratch / "socket")],
            os.environ | {"PYTHONPATH": str(SOURCE), "NOTIFY_SOCKET": str(scratch / "notify")},
            stderr=subprocess.DEVNULL,
        )
        try:
            manager.recv(100)
            os.sched_setaffinity(process.pid, [SERVER_CORE])
            yield process, scratch / "socket"
        finally:
            process.terminate()
            process.wait()


def ask(path: Path, request: bytes) -> None:
    """One request in a connection of its own, as Dovecot makes them."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"H3\t2\t0\t\tauth\n" + request)
        answer = connection.recv(4096)
        if not answer.startswith(b"O"):
            sys.exit(f"{request!r} was answered with {answer!r}")


def ask_one_after_the_other(path: Path, count: int) -> None:
    """Requests in one connection, each after the answer to the one before."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        for _ in range(count):
            connection.sendall(LOOKUP)
            connection.recv(4096)


def create(path: Path, client: int, count: int) -> None:
    for number in range(count):
        ask(path, f'Lshared/passdb/secret-password"u{client:04}{number:04}@{DOMAIN}\n'.encode())


def create_at_once(path: Path, clients: int, count: int) -> None:
    threads = [threading.Thread(target=create, args=(path, client, count)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def resident_memory(process: subprocess.Popen) -> str:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return f"{int(status.partition('VmRSS:')[2].split()[0]) / 1024:.1f} MB"


def processor_seconds(process: subprocess.Popen) -> float:
    """What the process has used of its core so far, on behalf of itself and in the kernel (proc_pid_stat(5))."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rates(process: subprocess.Popen, count: int, work: Callable[[], object]) -> tuple[float, float]:
    """How often a second `work` had `process` answer, by the clock and by the processor time of `process`."""
    used, begun = processor_seconds(process), time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    return count / seconds, count / max(processor_seconds(process) - used, 0.01)


def main() -> None:
    os.sched_setaffinity(0, CORES[:-1] or CORES)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running(Path(scratch)) as (doveauth, path),
        running_echo(Path(scratch) / "echo") as echo,
    ):
        ask(path, f'Lshared/passdb/secret-password"user12345@{DOMAIN}\n'.encode())
        at_rest = resident_memory(doveauth)
        cases = {
            "echoes in one connection": (
                *(echo, LOOKUPS),
                lambda: ask_one_after_the_other(Path(scratch) / "echo", LOOKUPS),
            ),
            "lookups in one connection": (doveauth, LOOKUPS, lambda: ask_one_after_the_other(path, LOOKUPS)),
            "lookups, a connection each": (doveauth, 5000, lambda: [ask(path, LOOKUP) for _ in range(5000)]),
        }
        rounds = [[rates(*case) for case in cases.values()] for _ in range(ROUNDS)]
        print(f"{f'median of {ROUNDS} rounds':34}{'by the clock':>14}{'by processor time':>19}{'beside echoes':>15}")
        for number, name in enumerate(cases):
            clock, processor = (statistics.median(found[number][by] for found in rounds) for by in (0, 1))
            ratio = statistics.median(found[number][0] / found[0][0] for found in rounds)
            print(f"{name:34}{clock:12.0f}/s{processor:17.0f}/s{ratio:15.2f}")
        clock, processor = rates(doveauth, 500, lambda: create_at_once(path, 50, 10))
        print(f"{'500 creations by 50 clients':34}{clock:12.0f}/s{processor:17.0f}/s")
        print(f"doveauth's resident memory: {at_rest} at rest, {resident_memory(doveauth)} at the end")


if __name__ == "__main__":
    main()
