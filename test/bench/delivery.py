"""How long a message takes to an idle client of the same relay: python -m test.bench.delivery

From the answer to the sender's DATA to the reader's IDLE notice, on a relay in the lab, three times in one run: as it
is deployed, the same with 300 further idle clients, and, for comparison, with Dovecot as Debian ships it (neither our
plugin nor hibernation). Prints a table; the figures go to build/bench-delivery.json.
"""

import json
import smtplib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from test.lab import Lab
from test.lab.errors import LabError
from test.lab.hosts import Host
from test.relay.delivery import Relay, measure, new_user
from test.relay.deploy import configure, deploy
from test.relay.errors import RelayError
from test.relay.figures import Distribution
from test.relay.steps import Steps
from test.support.mail_clients import ImapClient, ImapError

HOST = "_one.test"
REPORT = Path(__file__).resolve().parents[2] / "build" / "bench-delivery.json"
IDLE_CLIENTS = 300
MESSAGES = 200
# Each takes half a second.
STOCK_MESSAGES = 30
# Dovecot hands an idle client to hibernation after one second.
HIBERNATED_AFTER_S = 3.0
RELOAD_S = 3.0
PLUGIN_LINK = "/run/dovecot-imap-instant.conf"


@contextmanager
def idle_clients(relay: Relay, count: int) -> Iterator[None]:
    """Keep further clients, each of an account of its own, in IDLE."""

    def begin(_: int) -> ImapClient:
        inbox = new_user(relay).imap()
        inbox.idle()
        return inbox

    with ExitStack() as stack:
        with ThreadPoolExecutor(8) as pool:
            for inbox in pool.map(begin, range(count)):
                stack.enter_context(inbox)
        time.sleep(HIBERNATED_AFTER_S)
        yield


@contextmanager
def stock_dovecot(host: Host) -> Iterator[None]:
    """Take the plugin and hibernation out of Dovecot's configuration, and put them back."""
    host.run(["rm", PLUGIN_LINK])
    try:
        # A restart would make the link again. A reload goes on after it was asked for, and closes what is logging in.
        host.run(["doveadm", "reload"])
        time.sleep(RELOAD_S)
        yield
    finally:
        host.run(["systemctl", "restart", "dovecot"])
        host.run(["test", "-e", PLUGIN_LINK])


def run(steps: Steps) -> dict[str, Distribution]:
    """Measure; returns the distributions by case. Raises ``RelayError`` where a message was never announced."""
    lab = Lab()
    with steps.step(f"The relay {HOST}"):
        lab.up([HOST])
        configure(lab, [HOST])
        deploy(lab.layout.salt / "etc", [HOST], steps.console)
    host = lab.host(HOST)
    relay = Relay(HOST, str(host.ipv4))
    found = {}
    with steps.step(f"{MESSAGES} messages"):
        found["as deployed"] = _distribution(measure(relay, relay, MESSAGES))
    with (
        steps.step(f"{IDLE_CLIENTS} further idle clients"),
        idle_clients(relay, IDLE_CLIENTS),
        steps.step(f"{MESSAGES} messages"),
    ):
        found[f"with {IDLE_CLIENTS} further idle clients"] = _distribution(measure(relay, relay, MESSAGES))
    with steps.step(f"Dovecot as Debian ships it: {STOCK_MESSAGES} messages"), stock_dovecot(host):
        found["Dovecot without our plugin"] = _distribution(measure(relay, relay, STOCK_MESSAGES))
    return found


def _distribution(delays: list[float | None]) -> Distribution:
    if lost := delays.count(None):
        raise RelayError(
            f"{lost} of {len(delays)} messages were not announced", f"make lab-ssh HOST={HOST}; journalctl"
        )
    return Distribution.of([delay for delay in delays if delay is not None])


def main() -> int:
    """Run the benchmark. Returns 0 if every message was announced."""
    steps = Steps(Console())
    try:
        found = run(steps)
    except (RelayError, LabError, ImapError, smtplib.SMTPException) as error:
        steps.console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps({case: asdict(figures) for case, figures in found.items()}, indent=2) + "\n")
    table = Table(
        "From DATA's answer to the IDLE notice", "p50", "p95", "p99", "messages", box=None, header_style="bold"
    )
    for case, figures in found.items():
        table.add_row(case, *(f"{value:.0f} ms" for value in (figures.p50, figures.p95, figures.p99)), str(figures.n))
    steps.console.print()
    steps.console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
