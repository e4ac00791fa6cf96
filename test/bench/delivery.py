"""How long a message takes to an idle client of the same relay: python -m test.bench.delivery

From the answer to the sender's DATA to the reader's IDLE notice, on a relay of each Debian release in the lab, three
times: as it is deployed, the same with 300 further idle clients, and, for comparison, with Dovecot as Debian ships it
(neither our plugin nor hibernation). Prints a table, also of what an idle client takes of memory; the figures go to
build/bench-delivery.json.
"""

import json
import smtplib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from test.lab import Lab
from test.lab.errors import LabError
from test.lab.hosts import Host
from test.lab.layout import RELEASES, release_of
from test.relay.delivery import Relay, measure, new_user
from test.relay.deploy import configure, deploy
from test.relay.errors import RelayError
from test.relay.figures import Distribution
from test.relay.steps import Steps
from test.support.mail_clients import ImapClient, ImapError

HOSTS = ["_one.test", "_two.test"]
REPORT = Path(__file__).resolve().parents[2] / "build" / "bench-delivery.json"
IDLE_CLIENTS = 300
MESSAGES = 200
# Each takes half a second.
STOCK_MESSAGES = 30
# Dovecot hands an idle client to hibernation after one second.
HIBERNATED_AFTER_S = 3.0
RELOAD_S = 3.0
PLUGIN_LINK = "/run/dovecot-imap-instant.conf"
PROPORTIONAL_KB = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ { sum += $2 } END { print sum }'"


@dataclass(frozen=True)
class Found:
    """What was measured on one relay."""

    release: str  # of Debian, such as 13
    delays: dict[str, Distribution]  # by case
    idle_client_kb: float  # memory of all processes (proportional set size, proc(5)), for each idle client


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


def run(steps: Steps) -> dict[str, Found]:
    """Measure; returns what was found by host. Raises ``RelayError`` where a message was never announced."""
    lab = Lab()
    with steps.step(f"The relays {' and '.join(HOSTS)}"):
        lab.up(HOSTS)
        configure(lab, HOSTS)
        deploy(lab.layout.salt / "etc", HOSTS, steps.console)
    return {name: _measured(steps, lab.host(name)) for name in HOSTS}


def _measured(steps: Steps, host: Host) -> Found:
    relay = Relay(host.name, str(host.ipv4))
    delays = {}
    with steps.step(f"{host.name}: {MESSAGES} messages"):
        delays["as deployed"] = _distribution(host, measure(relay, relay, MESSAGES))
    before_kb = _memory_kb(host)
    with steps.step(f"{host.name}: {IDLE_CLIENTS} further idle clients"), idle_clients(relay, IDLE_CLIENTS):
        idle_client_kb = (_memory_kb(host) - before_kb) / IDLE_CLIENTS
        with steps.step(f"{host.name}: {MESSAGES} messages"):
            delays[f"with {IDLE_CLIENTS} further idle clients"] = _distribution(host, measure(relay, relay, MESSAGES))
    with steps.step(f"{host.name}: Dovecot as Debian ships it, {STOCK_MESSAGES} messages"), stock_dovecot(host):
        delays["Dovecot without our plugin"] = _distribution(host, measure(relay, relay, STOCK_MESSAGES))
    return Found(RELEASES[release_of(host.name)], delays, round(idle_client_kb, 1))


def _memory_kb(host: Host) -> int:
    return int(host.run(["sh", "-c", PROPORTIONAL_KB]).stdout)


def _distribution(host: Host, delays: list[float | None]) -> Distribution:
    if lost := delays.count(None):
        raise RelayError(
            f"{lost} of {len(delays)} messages were not announced", f"make lab-ssh HOST={host.name}; journalctl"
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
    REPORT.write_text(json.dumps({name: asdict(one) for name, one in found.items()}, indent=2) + "\n")
    for one in found.values():
        title = f"Debian {one.release}: from DATA's answer to the IDLE notice"
        table = Table(title, "p50", "p95", "p99", "messages", box=None, header_style="bold")
        for case, figures in one.delays.items():
            values = (figures.p50, figures.p95, figures.p99)
            table.add_row(case, *(f"{value:.0f} ms" for value in values), str(figures.n))
        steps.console.print()
        steps.console.print(table)
        steps.console.print(f"an idle client takes {one.idle_client_kb:.0f} KB of the processes' memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
