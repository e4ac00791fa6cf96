"""Killing at random: daemons, single processes of them, and whole hosts as if their power failed."""

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from test.lab import Lab
from test.lab.errors import LabError
from test.lab.hosts import Host, destroy_processes

# What a bare Debian runs as well, or what works with apt alone.
DEBIANS_OWN = ("systemd-", "dbus", "ssh", "console-getty", "syslog", "user@", "unattended-upgrades")
# Processes that end alone, while those around them live on.
PROCESSES = ("qmgr", "smtpd", "cleanup", "lmtp", "smtp", "auth", "imap", "anvil", "stats", "tlsmgr", "proxymap")


# By what answers in its place, for minutes, where it was killed again and again within seconds.
STANDS_IN_FOR = {"chatmail-transport-fallback.service": "chatmail-transport.service"}


def units(host: Host, kind: str = "service", state: str = "running") -> list[str]:
    """What runs on a relay beside what a bare Debian runs, by name."""
    argv = ["systemctl", "list-units", "--plain", "--no-legend", f"--type={kind}", f"--state={state}"]
    names = (line.split()[0] for line in host.run(argv).stdout.splitlines())
    return sorted({STANDS_IN_FOR.get(name, name) for name in names if not name.startswith(DEBIANS_OWN)})


@dataclass
class Disorder:
    """Kills something each `pause_s` seconds in the mean until stopped; `crash` takes a whole host."""

    lab: Lab
    daemons: Mapping[Host, Sequence[str]]  # the units of each host
    seed: int
    pause_s: float = 1.5
    kills: Counter = field(default_factory=Counter)
    last_kill: float | None = None  # by time.monotonic()

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._stop = threading.Event()
        # While a host is down nothing in it can be killed.
        self._up = threading.Lock()

    def run(self) -> None:
        """Kill until `stop`."""
        while not self._stop.wait(self._random.expovariate(1 / self.pause_s)):
            host = self._random.choice(list(self.daemons))
            with self._up:
                if self._random.random() < 0.7:
                    self._kill_unit(host, self._random.choice(self.daemons[host]))
                else:
                    self._kill_process(host, self._random.choice(PROCESSES))

    def stop(self) -> None:
        """Let `run` end."""
        self._stop.set()

    def _kill_unit(self, host: Host, unit: str) -> None:
        done = host.run(["systemctl", "kill", "--kill-whom=all", "--signal=KILL", unit], check=False)
        if done.returncode == 0:
            self._count(unit)

    def _kill_process(self, host: Host, name: str) -> None:
        found = host.run(["pgrep", "--exact", name], check=False).stdout.split()
        if found:
            host.run(["kill", "-KILL", self._random.choice(found)], check=False)
            self._count(f"one {name}")

    def crash(self) -> None:
        """End a host and all its processes in the same moment, and boot it again."""
        host = self._random.choice(list(self.daemons))
        with self._up:
            destroy_processes(host)
            self._count("host")
            self.lab.up([host.name])

    def _count(self, what: str) -> None:
        self.kills[what] += 1
        self.last_kill = time.monotonic()


def away(daemons: Mapping[Host, Sequence[str]]) -> list[str]:
    """Which of the hosts' daemons do not run."""
    return [f"{host.name}: {unit}" for host, wanted in daemons.items() for unit in _away(host, wanted)]


def _away(host: Host, wanted: Sequence[str]) -> list[str]:
    asked = [*wanted, *STANDS_IN_FOR]
    try:
        states = host.run(["systemctl", "is-active", *asked], check=False).stdout.split()
    except LabError:  # the host is not up yet
        return list(wanted)
    there = {STANDS_IN_FOR.get(unit, unit) for unit, state in zip(asked, states, strict=True) if state == "active"}
    return [unit for unit in wanted if unit not in there]


def queued(hosts: Sequence[Host]) -> int:
    """How many messages are in the queues of the hosts."""
    listings = [host.run(["postqueue", "-j"], check=False) for host in hosts]
    # Postfix being away is no empty queue.
    return sum(len(listing.stdout.splitlines()) + (listing.returncode != 0) for listing in listings)


def flush(hosts: Sequence[Host]) -> None:
    """What waits in the queues for its next try need not wait for the test."""
    for host in hosts:
        host.run(["postqueue", "-f"], check=False)
