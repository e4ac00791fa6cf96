"""Run the machine's commands; say what is being done."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from test.lab.errors import LabError

_BEGIN = time.monotonic()


def say(text: str) -> None:
    """Print a line of progress with the seconds since this program began."""
    print(f"lab {time.monotonic() - _BEGIN:5.1f}s  {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    say(f"{text} ...")
    begin = time.monotonic()
    yield
    say(f"{text}: {time.monotonic() - begin:.1f} s")


def run(
    argv: Sequence[str], *, text_in: str | None = None, timeout: float = 60, env: Mapping[str, str] | None = None
) -> str:
    """Run a command of the machine and return its standard output.

    Arguments: ``timeout`` in seconds. Raises LabError with the command and the end of its output if it is
    missing, fails or does not end in time.
    """
    done = finish(argv, text_in=text_in, timeout=timeout, env=env)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise LabError(f"`{shlex.join(argv)}` ended with code {done.returncode}:\n{tail}")
    return done.stdout


def finish(
    argv: Sequence[str],
    *,
    text_in: str | None = None,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its exit code; without ``text_in`` its standard input is empty.

    After ``timeout`` seconds it is killed with all that it has started, and LabError is raised; also if it is missing.
    """
    stdin = subprocess.DEVNULL if text_in is None else subprocess.PIPE
    pipes = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        process = subprocess.Popen(argv, **pipes, env=env, cwd=cwd, text=True, start_new_session=True)
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed; `python -m test.lab deps` installs what is needed") from error
    with process:
        try:
            stdout, stderr = process.communicate(text_in, timeout)
        except BaseException as error:
            # A child that outlives it would hold the pipes open, and leaving this block would wait for it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise LabError(f"`{shlex.join(argv)}` did not end within {timeout:.0f} s") from error
            raise
    return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)
