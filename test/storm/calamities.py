"""What happens to hosts: a full disk, no inodes left, a file system that went read-only, no memory.

Each is a context: it has happened within, and is over behind it; the value says whether processes are killed by it.
Queue and mailboxes are on a file system of their own meanwhile (tmpfs, whose size and number of inodes can be changed
while it is in use).
"""

import re
import threading
import time
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from test.lab.errors import LabError
from test.lab.hosts import Host
from test.storm.disorder import units

MOUNTED = ("/var/spool/postfix", "/var/lib/postfix", "/home/vmail")
PLACE = "/run/storm"
MEMORY = Path("/sys/fs/cgroup/memory")


@contextmanager
def own_file_system(host: Host) -> Iterator[None]:
    """Queue and mailboxes on a file system of their own, with what is in them; it goes back afterwards."""
    sockets, services = units(host, "socket", "active"), units(host)
    # Killed, as Postfix and nginx take seconds to stop.
    stop = f"--signal=KILL --kill-whom=all {' '.join(services)}; systemctl stop {' '.join(sockets + services)}"
    # A service takes the sockets that are there when it starts. What was killed often may be started all the same.
    start = f"{' '.join(sockets)} && systemctl reset-failed && systemctl start {' '.join(services)}"
    _shell(
        host,
        f"""
        set -e
        systemctl kill {stop}
        mkdir -p {PLACE} && mount -t tmpfs -o size=4g,nr_inodes=100000,mode=755 tmpfs {PLACE}
        for directory in {" ".join(MOUNTED)}; do
            mkdir -p {PLACE}$directory && cp -a $directory/. {PLACE}$directory/
            chown --reference=$directory {PLACE}$directory && chmod --reference=$directory {PLACE}$directory
            mount --bind {PLACE}$directory $directory
        done
        systemctl start {start}
        """,
    )
    try:
        yield
    finally:
        _shell(
            host,
            f"""
            systemctl kill {stop}
            for directory in {" ".join(MOUNTED)}; do
                umount --lazy $directory && find $directory -mindepth 1 -delete
                cp -a {PLACE}$directory/. $directory/
            done
            umount --lazy {PLACE}
            systemctl start {start}
            """,
        )


@contextmanager
def full_disk(host: Host) -> Iterator[bool]:
    """Not a block is free."""
    _leave_nothing(host, "df --block-size=1K --output=used", "size=${used}k")
    try:
        yield False
    finally:
        _remount(host, "size=4g")


@contextmanager
def full_mailbox(host: Host, directory: str) -> Iterator[None]:
    """A mailbox has a file system of its own, on which nothing is free; what gets there all the same is gone then."""
    _shell(
        host,
        f"""
        set -e
        cp -a {directory} {PLACE}-mailbox
        mount -t tmpfs -o size=256k,mode=700,uid=vmail,gid=vmail tmpfs {directory}
        mv {PLACE}-mailbox/* {directory}/ && rmdir {PLACE}-mailbox
        dd if=/dev/zero of={directory}/filling bs=4k 2> /dev/null || true
        """,
    )
    try:
        yield
    finally:
        host.run(["umount", "--lazy", directory])


@contextmanager
def no_inodes(host: Host) -> Iterator[bool]:
    """Blocks are free, but no further file can be made."""
    _leave_nothing(host, "df --output=iused", "nr_inodes=$used")
    try:
        yield False
    finally:
        _remount(host, "nr_inodes=100000")


@contextmanager
def read_only(host: Host) -> Iterator[bool]:
    """The file system is read-only: so it is where a disk failed, once nobody has files open for writing any more."""
    daemons = units(host)
    for _ in range(100):
        host.run(["systemctl", "kill", "--kill-whom=all", "--signal=KILL", *daemons], check=False)
        if host.run(["mount", "-o", "remount,ro", PLACE], check=False).returncode == 0:
            break
        time.sleep(0.05)
    else:
        raise LabError(f"{host.name}: {PLACE} cannot be made read-only, it is always in use")
    try:
        yield True
    finally:
        _remount(host, "rw")


@contextmanager
def no_memory(host: Host) -> Iterator[bool]:
    """The relay may use no more memory than now; the kernel kills a process of it that wants more.

    What it uses already is not counted: pages stay with the group that asked for them. Debian's own services stay
    outside, as the kernel spares init, sshd and D-Bus on a machine of their own.
    """
    daemons = set(units(host))
    group = MEMORY / f"storm-{host.layout.machine(host.number)}"
    group.mkdir(exist_ok=True)
    limit = group / "memory.limit_in_bytes"
    stop = threading.Event()

    def take_in() -> None:
        while not stop.wait(0.3):
            if not _killed(group):
                # The kernel refuses (EBUSY) where more was used meanwhile.
                with suppress(OSError):
                    limit.write_text((group / "memory.usage_in_bytes").read_text())
            for pid in _pids(host, daemons):
                _move(pid, group)

    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(take_in)
        try:
            yield True
        finally:
            stop.set()
            taking.result()
            killed = _killed(group)
            limit.write_text("-1")
            while pids := (group / "cgroup.procs").read_text().split():
                for pid in pids:
                    _move(int(pid), MEMORY)
            group.rmdir()
    if not killed:
        raise LabError(f"{host.name}: nothing was killed for want of memory, so nothing was tried")


def _killed(group: Path) -> int:
    """How many processes of a group were killed for want of memory."""
    return int((group / "memory.oom_control").read_text().split()[-1])


def _pids(host: Host, daemons: Set[str]) -> list[int]:
    """The processes of a host's units, as the machine numbers them: those in the PID namespace of its init."""
    namespace = Path(f"/proc/{host.init().pid}/ns/pid").readlink()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            in_host = (entry / "ns/pid").readlink() == namespace
            names = re.split("[/\n]", (entry / "cgroup").read_text())
        except (FileNotFoundError, PermissionError, ProcessLookupError):  # it has just ended, or is not ours to see
            continue
        if in_host and not daemons.isdisjoint(names):
            found.append(int(entry.name))
    return found


def _move(pid: int, group: Path) -> None:
    with suppress(ProcessLookupError):
        (group / "cgroup.procs").write_text(str(pid))


def _leave_nothing(host: Host, used: str, option: str) -> None:
    """Give the file system what it uses; the kernel refuses less, which it is where something was written meanwhile."""
    script = f"""
    for attempt in $(seq 100); do
        used=$({used} {PLACE} | tail -n 1 | tr -d " ")
        mount -o remount,{option} {PLACE} 2> /dev/null && exit
    done
    exit 1
    """
    _shell(host, script)


def _remount(host: Host, options: str) -> None:
    host.run(["mount", "-o", f"remount,{options}", PLACE])


def _shell(host: Host, script: str) -> str:
    return host.run(["sh", "-c", script], timeout=120).stdout


ALL = {
    "a full disk": full_disk,
    "no inodes": no_inodes,
    "a read-only file system": read_only,
    "no memory": no_memory,
}
