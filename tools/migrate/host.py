"""A host of a move: scripts run on it as root, and it keeps notes of the move."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import salt.client.ssh

from tools.ssh import Target

WITH_UNITS = ("stop", "close")
"""Scripts before which present.sh goes."""


class MigrationError(Exception):
    """The move cannot go on; the message says why and what to do."""


class Host:
    """A host of the roster, to run scripts on."""

    def __init__(self, ssh: salt.client.ssh.SSH, name: str):
        self._target = Target.of(ssh, name)
        self.name, self.address, self.user = name, self._target.address, self._target.user
        self.port, self.sudo = self._target.port, self._target.sudo

    def run(self, name: str, *arguments: str, show: bool = False, codes: Sequence[int] = (0,)) -> str:
        """Run the script ``NAME.sh`` of this directory and return what it prints, or let it print here with ``show``.

        Raises MigrationError unless it ends with one of ``codes``.
        """
        names = ("present", name) if name in WITH_UNITS else (name,)
        script = "".join(Path(__file__).with_name(f"{part}.sh").read_text() for part in names)
        done = subprocess.run(
            self._target.command(script, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=None if show else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode not in codes:
            raise MigrationError(f"{self.name}: {done.stderr.strip()[-2000:] or f'exit code {done.returncode}'}")
        return done.stdout or ""

    def lines(self, name: str, *arguments: str) -> list[str]:
        """Return the lines that a script prints; see ``run``."""
        return self.run(name, *arguments).splitlines()


@dataclass(frozen=True)
class Notes:
    """What is noted on a host: its machine-id(5), where its relay has moved to, whose mail it takes or has taken."""

    machine: str
    moved: str
    migration: Mapping

    @classmethod
    def of(cls, host: Host) -> "Notes":
        machine, moved, migration = [*host.lines("notes"), "", ""][:3]
        return cls(machine, moved, json.loads(migration or "{}"))
