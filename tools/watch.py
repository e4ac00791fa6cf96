"""
Tell what got worse with the relays of the roster, or well again, once: ``python -m tools.watch``.

It asks each for its status and compares with what it found before, which it keeps in a file. A timer on any machine
runs it (docs/monitoring.md), so that it speaks also where a relay is down and cannot. What was told is not told again
while it stays as it is; what could not be told is told by the next run.
"""

import argparse
import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from chatmail_files import replace
from chatmail_news import AWAY, faults, news, remembered
from tools.apply_progress import printable
from tools.errors import ApplyError
from tools.ssh import NoEnd, answers, client

STATUS_TIMEOUT_S = 300
TELL_TIMEOUT_S = 60
# A network that is away for a moment is nothing to wake people for.
AGAIN_AFTER_S = 30.0


def statuses(config_dir: Path, relays: str) -> dict[str, object]:
    """
    Return what salt-ssh says of each relay's status, by name: a mapping where it was asked, else anything.

    ``relays`` is a name of the roster or a glob. Raises ApplyError where there is no such answer at all.
    """
    try:
        return _asked(config_dir, relays)
    except NoEnd:
        # A relay that hangs keeps back what the others have said.
        return {name: _asked_alone(config_dir, name) for name in client(config_dir, [relays], []).targets}


def _asked(config_dir: Path, relays: str) -> dict[str, object]:
    return answers(config_dir, relays, "chatmail_relay.status", seconds=STATUS_TIMEOUT_S)[0]


def _asked_alone(config_dir: Path, relay: str) -> object:
    try:
        return _asked(config_dir, relay).get(relay)
    except ApplyError as error:
        return str(error)


def watch(config_dir: Path, relays: str, state: Path, tell: Sequence[str]) -> list[str]:
    """
    Ask, tell, and remember. Returns what was told.

    ``tell`` is a command that gets it on its standard input; without one it is printed. Raises ApplyError where the
    relays could not be asked, or people not told; then nothing is remembered. Who watches with the same ``state`` at
    the same time waits.
    """
    state.parent.mkdir(parents=True, exist_ok=True)
    # The file itself is replaced.
    with state.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _watch(config_dir, relays, state, tell)


def _watch(config_dir: Path, relays: str, state: Path, tell: Sequence[str]) -> list[str]:
    try:
        before = json.loads(state.read_text())
    except FileNotFoundError:
        before = {}
    except ValueError as error:
        raise ApplyError(f"{state} is not what this command wrote: remove it.") from error
    now = {relay: faults(said) for relay, said in statuses(config_dir, relays).items()}
    if any(AWAY in wrong and AWAY not in before.get(relay, {}) for relay, wrong in now.items()):
        time.sleep(AGAIN_AFTER_S)
        now = {relay: faults(said) for relay, said in statuses(config_dir, relays).items()}
    lines = [printable(line) for line in news(before, now)]
    if lines:
        _tell("\n".join(lines) + "\n", tell)
    replace(state, json.dumps({**before, **remembered(before, now)}).encode(), 0o600)
    return lines


def _tell(text: str, command: Sequence[str]) -> None:
    if not command:
        print(text, end="", flush=True)
        return
    try:
        subprocess.run(command, input=text, text=True, timeout=TELL_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ApplyError(f"Nobody was told, the next run tries again: {error}\n{text}") from error


def main(words: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 where the relays were asked, whatever they said."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    parser = argparse.ArgumentParser(
        prog="./relay watch", description="Tell what got worse with relays, or well again."
    )
    parser.add_argument("relays", nargs="?", default="*", help="a name of the roster, or a glob; default: all")
    parser.add_argument(
        "--tell", type=shlex.split, default=[], help="a command that gets the message; default: print it"
    )
    parser.add_argument(
        "--state", type=Path, default=home / "chatmail-watch.json", help="where it remembers (%(default)s)"
    )
    parser.add_argument("-c", "--config-dir", type=Path, default=Path("etc"), help="Salt's configuration (etc)")
    options = parser.parse_args(words)
    try:
        watch(options.config_dir, options.relays, options.state, options.tell)
    except ApplyError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
