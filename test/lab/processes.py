"""Find and end the processes of a lab.

Every process that the lab starts carries the lab's state directory in its environment, and so does the init
of every host. They are found there and not by recorded numbers, which the kernel gives to others: whatever
happened to the program that started them, a look into /proc is right. The masters of shared ssh connections, which
salt-ssh also starts, are known by the socket's path in their title.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from test.lab.layout import Layout

LAB_VARIABLE = "CHATMAIL_LAB"
ROLE_VARIABLE = "CHATMAIL_LAB_ROLE"


@dataclass(frozen=True)
class Process:
    """A live process: its number, when it began (clock ticks since boot), its command and its role in the lab."""

    pid: int
    started: int
    command: str
    role: str
    is_init: bool


def marked_environment(layout: Layout, role: str) -> dict[str, str]:
    """This process's environment with the marks by which `find` knows the children."""
    return os.environ | marks(layout, role)


def marks(layout: Layout, role: str) -> dict[str, str]:
    return {LAB_VARIABLE: str(layout.state), ROLE_VARIABLE: role}


def parse_environment(block: bytes) -> dict[str, str]:
    """The variables of a /proc/PID/environ block (proc(5))."""
    pairs = (entry.partition("=") for entry in block.decode(errors="replace").split("\0"))
    return {name: value for name, separator, value in pairs if separator}


def start_time(stat: str) -> int:
    """Field 22 of /proc/PID/stat (proc(5)); the command in field 2 may hold anything, also parentheses."""
    return int(stat.rpartition(")")[2].split()[19])


def namespace_numbers(status: str) -> list[int]:
    """The numbers by which a process is known, from this PID namespace inwards, in a /proc/PID/status text."""
    line = next((line for line in status.splitlines() if line.startswith("NSpid:")), "NSpid:")
    return [int(number) for number in line.split()[1:]]


def find(layout: Layout) -> list[Process]:
    """All live processes that the lab started, inits of the hosts among them; not what runs inside the hosts."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    found = (_look_at(number, layout) for number in numbers if number != os.getpid())
    return [process for process in found if process]


def _look_at(number: int, layout: Layout) -> Process | None:
    entry = Path(f"/proc/{number}")
    try:
        role = _role((entry / "environ").read_bytes(), (entry / "cmdline").read_bytes(), layout)
        if not role:
            return None
        stat = (entry / "stat").read_text(errors="replace")
        depth = namespace_numbers((entry / "status").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    is_init = len(depth) > 1 and depth[-1] == 1
    if len(depth) > 1 and not is_init:
        return None
    command = stat.partition("(")[2].rpartition(")")[0]
    return Process(number, start_time(stat), command, role, is_init)


def _role(environment: bytes, title: bytes, layout: Layout) -> str:
    if title.startswith(b"ssh: ") and f"{layout.run}/".encode() in title:
        return "ssh"
    variables = parse_environment(environment)
    return variables.get(ROLE_VARIABLE, "") if variables.get(LAB_VARIABLE) == str(layout.state) else ""


def is_alive(process: Process) -> bool:
    """Whether this very process still runs; not another that was given its number, nor a zombie."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return start_time(stat) == process.started and stat.rpartition(")")[2].split()[0] != "Z"


def end(processes: Iterable[Process], *, patience: float = 10) -> list[Process]:
    """Kill processes and wait, at most `patience` seconds, until they are gone; returns those that are not.

    Inits go first: with the init of a host all its processes go at once (pid_namespaces(7)), and its
    systemd-nspawn then takes the network cable away and ends by itself.
    """
    remaining = sorted(processes, key=lambda process: not process.is_init)
    for process in remaining:
        if process.is_init or process.command != "systemd-nspawn":
            _kill(process)
    deadline = time.monotonic() + patience
    while remaining and time.monotonic() < deadline:
        time.sleep(0.02)
        remaining = [process for process in remaining if is_alive(process)]
        if time.monotonic() > deadline - patience / 2:
            for process in remaining:
                _kill(process)
    return remaining


def _kill(process: Process) -> None:
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
