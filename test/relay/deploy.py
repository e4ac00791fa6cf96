"""Deploying the lab's relays as an operator does; each apply publishes its records in the lab's name server."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from test.lab import Lab
from test.relay.errors import RelayError
from tools.apply import apply
from tools.apply_display import summary
from tools.apply_result import HostResult
from tools.errors import ApplyError

BUSY_TIMEOUT_S = 900.0
BUSY_LOOK_S = 10.0
FIX = "Fix what is named above, then `make relay` again: it goes on where this ended."


def configure(lab: Lab, hosts: Sequence[str], **settings: int) -> None:
    """Give each host its pillar, what an operator edits; `settings` are further ones of the relays."""
    for host in hosts:
        # The load average is the machine's, which works for two hosts and their clients: no measure for one relay.
        # And there is no way out of the lab to iroh-relay's download. All clients of a benchmark have one address.
        pillar = {"mail_domain": host, "max_load_1m": 1000, "iroh_relay": "", "max_creations_per_hour": 100_000}
        lab.pillar(host, {"chatmail": pillar | settings})


def deploy(config_dir: Path, hosts: Sequence[str], console: Console) -> list[HostResult]:
    """
    Apply the formula to hosts, all at once, and print the outcome.

    Where an apply of an earlier run that was interrupted still goes on, this waits for its end.

    Raises ``RelayError`` where a state fails.
    """
    try:
        results = _apply_when_free(config_dir, hosts, console)
    except ApplyError as error:
        raise RelayError(str(error), FIX) from error
    for result in results:
        for line in summary(result, console.width):
            console.print(line, soft_wrap=True)
    if failed := [result.host for result in results if not result.succeeded]:
        raise RelayError(f"The apply failed on {', '.join(failed)}.", FIX)
    return results


def _apply_when_free(config_dir: Path, hosts: Sequence[str], console: Console) -> list[HostResult]:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        results = apply(config_dir, hosts, ["chatmail"], console)
        busy = ", ".join(result.host for result in results if result.busy)
        if not busy or time.monotonic() > deadline:
            return results
        waiting = f"  {busy}: an earlier apply, which was interrupted here, goes on there; waiting for its end"
        if console.is_terminal:
            with console.status(waiting):
                time.sleep(BUSY_LOOK_S)
        else:
            console.print(waiting, soft_wrap=True)
            time.sleep(BUSY_LOOK_S)


def quoted_strings(text: str) -> str:
    """Cut the text of a TXT record into quoted strings of at most 255 characters (RFC 1035 section 3.3.14)."""
    return " ".join(f'"{text[start : start + 255]}"' for start in range(0, len(text), 255))
