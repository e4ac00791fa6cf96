"""Waiting for conditions, in place of time."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PATIENCE_S = 60
PAUSE_MAX_S = 0.2


def wait_until(look: Callable[[], Found], reason: str = "", patience_s: float = PATIENCE_S) -> Found:
    """Wait until `look` returns something that is true; returns it.

    :param look: is asked immediately, and then after pauses that grow from 10 ms to `PAUSE_MAX_S`.
    :param reason: what a TimeoutError after `patience_s` seconds says, before what `look` returned last.
    """
    deadline = time.monotonic() + patience_s
    pause_s = 0.01
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{reason or 'the condition does not hold'} after {patience_s} s: {found!r}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)
    return found
