"""What the filter costs: messages a second through the same Postfix with and without it, and the filter's memory.

    .venv/bin/python -m test.bench.filter            in a host that the lab makes for this and removes again
    PYTHONPATH=_utils python3 -m test.bench.filter --here DIRECTORY     on this machine, which has Postfix, as root

Postfix runs as an instance of its own, with two listeners that differ in nothing but ``smtpd_proxy_filter``, and
discards what it takes. Its `smtp-source` sends 4 KB encrypted messages in 20 sessions, a connection a message, as
clients do. Rounds alternate between the listeners, so that both see the same machine.
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from test.support import activation
from test.support.messages import armor, encrypted, encrypted_payload
from test.support.service_settings import write_settings

HOST = "bench.test"
PACKAGES = "python3-aiosmtpd python3-dnspython python3-h11 python3-yaml"
COPY = "/srv/bench"  # on the host, of what is needed
NEEDED = [
    *("chatmaild/src/chatmaild/**/*.py", "_utils/*.py", "chatmail/defaults.yaml"),
    *("test/*.py", "test/bench/*.py", "test/support/*.py"),
]
SESSIONS = 20
ROUNDS = 5
MINUTES = 20  # at most
MESSAGES = 4000  # a round and listener, so that the filter sees 20,000
UNLIMITED = 1_000_000  # messages a user and minute
DIRECT_PORT, FILTERED_PORT, FILTER_PORT, REINJECT_PORT = 25250, 25251, 25252, 25253
SENDER, RECIPIENT = "alice@bench.test", "bob@example.net"

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/mail.log
maillog_file_prefixes = {directory}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.test
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
default_transport = discard:
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
"""

MASTER_CF = f"""\
127.0.0.1:{DIRECT_PORT} inet n - n - - smtpd
127.0.0.1:{FILTERED_PORT} inet n - n - - smtpd
  -o smtpd_proxy_filter=127.0.0.1:{FILTER_PORT}
127.0.0.1:{REINJECT_PORT} inet n - n - 100 smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


def main() -> None:
    """Measure in the lab, or here."""
    parser = argparse.ArgumentParser(description="Messages a second with and without the filter.")
    parser.add_argument("--here", type=Path, metavar="DIRECTORY", help="measure on this machine; scratch directory")
    directory = parser.parse_args().here
    if directory is None:
        measure_in_lab()
    else:
        measure(directory, Path(__file__).parents[2])


def measure_in_lab() -> None:
    """Make a host, measure there, remove it."""
    from test.lab import Lab

    root = Path(__file__).parents[2]
    lab = Lab()
    lab.up()
    host = lab.add(HOST)
    try:
        host.run(["apt-get", "-qq", "update"])
        install = "DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends"
        host.run(["sh", "-c", f"{install} postfix {PACKAGES} >/dev/null"], timeout=300)
        host.run(["systemctl", "disable", "--now", "--quiet", "postfix"])
        for file in (file for pattern in NEEDED for file in root.glob(pattern)):
            host.write(f"{COPY}/{file.relative_to(root)}", file.read_text())
        print(f"sending {2 * ROUNDS * MESSAGES} messages, which takes some minutes", flush=True)
        command = f"cd {COPY}; PYTHONPATH=_utils exec python3 -m test.bench.filter --here {COPY}/run"
        print(host.run(["sh", "-c", command], timeout=MINUTES * 60).stdout, end="")
    finally:
        lab.remove(HOST)


def measure(directory: Path, root: Path) -> None:
    """Run all rounds and print the table.

    :param directory: scratch, removed at the end; Postfix's queue is here.
    :param root: the repository, or as much of it as is needed.
    """
    directory.mkdir(parents=True)
    try:
        message = directory / "message"
        octets = encrypted(SENDER, RECIPIENT, armored=armor(encrypted_payload(2200)))
        message.write_bytes(octets.replace(b"\r\n", b"\n"))  # smtp-source ends lines itself
        with postfix(directory), filtermail(directory, root) as pid:
            for port in (DIRECT_PORT, FILTERED_PORT):
                send(port, message, MESSAGES // 2)
            memory, used = resident_kib(pid), processor_seconds(pid)
            direct, filtered = [], []
            for _ in range(ROUNDS):
                direct.append(send(DIRECT_PORT, message, MESSAGES))
                filtered.append(send(FILTERED_PORT, message, MESSAGES))
            print_rates(len(octets), direct, filtered)
            each = (processor_seconds(pid) - used) / (ROUNDS * MESSAGES)
            print(f"the filter's processor time: {each * 1000:.2f} ms a message")
            after = resident_kib(pid) / 1024
            print(f"its memory: {memory / 1024:.1f} MiB, {ROUNDS * MESSAGES} messages later {after:.1f} MiB")
    finally:
        shutil.rmtree(directory)


def send(port: int, message: Path, count: int) -> float:
    """Send `message` `count` times; returns messages a second."""
    start = time.monotonic()
    subprocess.run(
        [
            *["smtp-source", "-s", str(SESSIONS), "-m", str(count), "-f", SENDER, "-t", RECIPIENT],
            *["-F", message, f"127.0.0.1:{port}"],
        ],
        check=True,
    )
    return count / (time.monotonic() - start)


@contextmanager
def postfix(directory: Path) -> Iterator[None]:
    """The Postfix instance, running."""
    config = directory / "etc"
    for path in (config, directory / "queue", directory / "data"):
        path.mkdir()
    shutil.chown(directory / "data", "postfix")
    (config / "main.cf").write_text(MAIN_CF.format(directory=directory))
    (config / "master.cf").write_text(MASTER_CF)
    command = ["postfix", "-c", config]
    subprocess.run([*command, "start"], check=True, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run([*command, "stop"], check=True, stderr=subprocess.DEVNULL)


@contextmanager
def filtermail(directory: Path, root: Path) -> Iterator[int]:
    """The filter, running in its outgoing role with Debian's Python; yields its process id."""
    settings = write_settings(
        directory / "filtermail.toml",
        mail_domain=HOST,
        mailboxes_dir=directory / "mail",
        postfix_reinject_port=REINJECT_PORT,
        max_user_send_per_minute=UNLIMITED,
        max_user_send_burst_size=UNLIMITED,
    )
    with (directory / "filter.log").open("x") as log:
        process = activation.start(
            ["/usr/bin/python3", "-m", "chatmaild.filtermail", settings, "outgoing"],
            [socket.create_server(("127.0.0.1", FILTER_PORT))],
            os.environ | {"PYTHONPATH": str(root / "chatmaild/src")},
            stderr=log,
        )
    try:
        while "loop" not in (directory / "filter.log").read_text():
            if process.poll() is not None:
                sys.exit((directory / "filter.log").read_text())
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def resident_kib(pid: int) -> int:
    """Resident memory of a process and its children in KiB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = int(re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])
    return own + sum(map(resident_kib, map(int, children)))


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used, in user and kernel mode (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def print_rates(size: int, direct: list[float], filtered: list[float]) -> None:
    """Print medians with the spread of the rounds."""
    ratio = statistics.median(filtered) / statistics.median(direct)
    print(f"{MESSAGES} messages of {size} bytes a round, {SESSIONS} sessions, {ROUNDS} rounds, {os.cpu_count()} cores")
    print(f"{'':18}{'median':>8}{'lowest':>8}{'highest':>8}  messages/s")
    for name, rates in (("without filter", direct), ("with filter", filtered)):
        print(f"{name:18}{statistics.median(rates):8.0f}{min(rates):8.0f}{max(rates):8.0f}")
    print(f"{'ratio':18}{ratio:8.2f}")


if __name__ == "__main__":
    main()
