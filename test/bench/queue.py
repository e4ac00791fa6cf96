"""
How mail fares while mail to dead destinations waits: ``make bench-queue [QUICK=1]``

From the answer to the sender's DATA to the IDLE notice of a client of another relay: with an empty queue, and with
10,000 messages in it for 200 destinations, each dead in one of the ways of ``test/support/dead_destinations.py``.
Prints a table; the figures go to build/bench-queue.json.
"""

import argparse
import json
import smtplib
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from test.lab import Host, Lab
from test.lab.errors import LabError
from test.relay.delivery import Relay, measure, new_user
from test.relay.deploy import configure, deploy
from test.relay.errors import RelayError
from test.relay.figures import Distribution
from test.relay.steps import Steps
from test.support import messages
from test.support.dead_destinations import SORTS, dead_domains
from test.support.mail_clients import ImapError, send, submission

HOSTS = ["_one.test", "_two.test"]
REPORT = Path(__file__).resolve().parents[2] / "build" / "bench-queue.json"
NETWORKS = 4
SENDERS = 8
UNLIMITED = 1_000_000  # messages a minute


@dataclass(frozen=True)
class Plan:
    """How much is measured; ``dead`` messages go to ``destinations``, ``living`` ones are timed."""

    destinations: int
    dead: int
    living: int


FULL = Plan(destinations=200, dead=10_000, living=300)
QUICK = Plan(destinations=60, dead=1_000, living=60)


def fill(relay: Relay, domains: Sequence[str], count: int) -> None:
    """Submit ``count`` messages to the domains, in turn."""

    def send_some(first: int) -> None:
        user = new_user(relay)
        with submission(relay.address, user.address, user.password) as client:
            for number in range(first, count, SENDERS):
                recipient = f"someone@{domains[number % len(domains)]}"
                send(client, user.address, [recipient], messages.encrypted(user.address, recipient))

    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(send_some, range(SENDERS)))


def waiting(host: Host) -> int:
    """How many messages are in the queue."""
    return len(host.run(["postqueue", "-j"], timeout=120).stdout.splitlines())


def distribution(source: Relay, target: Relay, count: int) -> Distribution:
    """Raises ``RelayError`` where a message was not announced in time."""
    delays = measure(source, target, count)
    if lost := delays.count(None):
        raise RelayError(f"{lost} of {count} messages were not announced", f"make lab-ssh HOST={source.domain}; mailq")
    return Distribution.of([delay for delay in delays if delay is not None])


def run(steps: Steps, plan: Plan) -> dict[str, Distribution]:
    """Measure; returns the distributions by what is in the queue."""
    lab = Lab()
    with steps.step(f"The relays {' and '.join(HOSTS)}"):
        lab.up(HOSTS)
        configure(lab, HOSTS, max_user_send_per_minute=UNLIMITED, max_user_send_burst_size=UNLIMITED)
        deploy(lab.layout.salt / "etc", HOSTS, steps.console)
    host = lab.host(HOSTS[0])
    source, target = (Relay(name, str(lab.host(name).ipv4)) for name in HOSTS)
    found = {}
    with steps.step(f"An empty queue: {plan.living} messages"):
        found["an empty queue"] = distribution(source, target, plan.living)
    with dead_domains(lab, host, NETWORKS, plan.destinations // NETWORKS) as domains:
        try:
            with steps.step(f"{plan.dead} messages to {len(domains)} dead destinations ({', '.join(SORTS)})"):
                began = time.monotonic()
                fill(source, domains, plan.dead)
                steps.note(f"submitted in {time.monotonic() - began:.0f} s")
            with steps.step(f"{plan.dead} in the queue: {plan.living} messages"):
                found[f"{plan.dead} messages to {len(domains)} dead ones"] = distribution(source, target, plan.living)
                steps.note(f"{waiting(host)} in the queue after it")
        finally:
            host.run(["postsuper", "-d", "ALL"], timeout=300)
    return found


def main() -> int:
    """Run the benchmark. Returns 0 if every message was announced."""
    parser = argparse.ArgumentParser(prog="make bench-queue", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer destinations and messages")
    steps = Steps(Console())
    try:
        found = run(steps, QUICK if parser.parse_args().quick else FULL)
    except (RelayError, LabError, ImapError, smtplib.SMTPException) as error:
        steps.console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps({case: asdict(figures) for case, figures in found.items()}, indent=2) + "\n")
    table = Table("to a living relay, ms; in the queue", "p50", "p95", "p99", "n", box=None, padding=(0, 2))
    for case, figures in found.items():
        table.add_row(case, *(f"{value:.0f}" for value in (figures.p50, figures.p95, figures.p99)), str(figures.n))
    steps.console.print()
    steps.console.print(table)
    usual, loaded = found.values()
    steps.console.print(f"\np99 beside that of an empty queue: {loaded.p99 / usual.p99:.1f} times", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
