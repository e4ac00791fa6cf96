"""A host of the roster on which a tool takes steps: it runs the tool's shell scripts there, and applies."""

import contextlib
import fcntl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import salt.client.ssh
from rich.console import Console

from tools.apply import apply
from tools.apply_display import summary
from tools.apply_progress import printable
from tools.apply_result import HostResult
from tools.ssh import Target

BUSY_PAUSE_S = 2.0


class StepFailed(Exception):
    """The tool cannot go on; the message says why and what to do."""


class Host:
    """A host, to run scripts on as root."""

    def __init__(self, ssh: salt.client.ssh.SSH, name: str, scripts: Path, before: Mapping[str, str] | None = None):
        """Find it in the roster.

        ``scripts`` is the directory of the scripts ``NAME.sh``; ``before`` names for some another one that goes before.
        """
        self._target = Target.of(ssh, name)
        self._scripts, self._before = scripts, before or {}
        self.name, self.address, self.user = name, self._target.address, self._target.user
        self.port, self.sudo = self._target.port, self._target.sudo

    def run(
        self, name: str, *arguments: str, given: bytes = b"", show: bool = False, codes: Sequence[int] = (0,)
    ) -> str:
        """Run the script ``NAME.sh`` with ``given`` on its standard input.

        Returns what it prints, or lets it print here with ``show``. Raises StepFailed unless it ends with one of
        ``codes``.
        """
        names = (self._before[name], name) if name in self._before else (name,)
        script = "".join((self._scripts / f"{part}.sh").read_text() for part in names)
        done = subprocess.run(
            self._target.command(script, *arguments),
            input=given,
            stdout=None if show else subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode not in codes:
            said = done.stderr.decode(errors="replace").strip()[-2000:]
            raise StepFailed(printable(f"{self.name}: {said or f'exit code {done.returncode}'}"))
        return (done.stdout or b"").decode(errors="replace")

    def lines(self, name: str, *arguments: str) -> list[str]:
        """Return the lines that a script prints; see ``run``."""
        return self.run(name, *arguments).splitlines()


@contextlib.contextmanager
def alone(config_dir: Path, console: Console) -> Iterator[None]:
    """Wait until no other run moves or restores a relay from here, nor what one has left at work; keep others out."""
    with (config_dir / "master").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print("Another run is under way here, or what an interrupted one has begun; waiting for its end.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def applied(
    config_dir: Path,
    host: Host,
    console: Console,
    settings: Mapping | None = None,
    sls: str = "chatmail",
    *,
    test: bool = False,
) -> HostResult:
    """
    Apply ``sls`` with some settings other than the pillar's, after what an interrupted run has left at work there.

    With ``test`` only what would change is found out. Returns what came of it. Raises ApplyError.
    """
    while True:
        (result,) = apply(config_dir, [host.name], [sls], console, settings, test=test)
        if not result.busy:
            return result
        time.sleep(BUSY_PAUSE_S)


def apply_to(
    config_dir: Path, host: Host, console: Console, settings: Mapping | None = None, sls: str = "chatmail"
) -> None:
    """Apply as ``applied`` does. Raises StepFailed, which tells the outcome, unless it succeeds, or ApplyError."""
    result = applied(config_dir, host, console, settings, sls)
    if not result.succeeded:
        raise StepFailed("\n".join(str(line) for line in summary(result, console.width)))
