"""Run the machine's commands; say what is being done."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
    argv: Sequence[str], *, text_in: str | None = None, timeout: float = 60, env: dict[str, str] | None = None
) -> str:
    """Run a command of the machine and return its standard output.

    Arguments: ``timeout`` in seconds. Raises LabError with the command and the end of its output if it is
    missing, fails or does not end in time.
    """
    source = {"stdin": subprocess.DEVNULL} if text_in is None else {"input": text_in}
    try:
        done = subprocess.run(argv, **source, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed; `python -m test.lab deps` installs what is needed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(argv)}` did not end within {timeout:.0f} s") from error
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise LabError(f"`{' '.join(argv)}` ended with code {done.returncode}:\n{tail}")
    return done.stdout
