"""
How long a message takes to another relay at a distance: ``make bench-federation [QUICK=1]``

From the answer to the sender's DATA to the IDLE notice of a client near the receiving relay, between the two relays of
the lab, warm, in both directions: without a distance, and with a proxy that lets all octets travel for 50 ms each way
(``test/bench/distance.py``), to which the other relay's name leads for as long. By each way that mail can take: SMTP
with a new connection for each message, or with kept ones, which ``postconf`` makes of the relay for as long, and what
is deployed. Prints a table; the figures go to build/bench-federation.json.
"""

import argparse
import json
import smtplib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from test.bench.distance import distance
from test.lab import Host, Lab
from test.lab.commands import run
from test.lab.errors import LabError
from test.relay.delivery import Relay, measure
from test.relay.deploy import configure, deploy
from test.relay.errors import RelayError
from test.relay.figures import Distribution
from test.relay.steps import Steps
from test.support.mail_clients import ImapError

HOSTS = ["_one.test", "_two.test"]
REPORT = Path(__file__).resolve().parents[2] / "build" / "bench-federation.json"
ONE_WAY_S = 0.05
ROUND_TRIP_MS = 2000 * ONE_WAY_S
PORTS = (25, 443)
# Of the lab's addresses, one for the proxy.
PROXY_NUMBER = 230
# The first make the connection, and have the DNS asked.
WARMING = 10
MAIN_CF = "/etc/postfix/main.cf"


@dataclass(frozen=True)
class Way:
    """A way in which mail goes to another relay: what it is called, and the settings of main.cf that make it."""

    title: str
    settings: tuple[str, ...] = ()


SMTP_ALONE = "outgoing_transport_maps="
WAYS = (
    Way(
        "SMTP, new connections",
        (
            *("smtp_tls_connection_reuse=no", "smtp_connection_cache_on_demand=no"),
            *("smtp_connection_cache_destinations=", SMTP_ALONE),
        ),
    ),
    Way("SMTP, kept connections", (SMTP_ALONE,)),
    Way("HTTPS, kept connections"),
)


@dataclass(frozen=True)
class Found:
    """What was measured from one relay to the other by one way."""

    source: str
    way: str
    near: Distribution
    far: Distribution

    @property
    def round_trips(self) -> float:
        """How often the distance was travelled there and back, in the median."""
        return (self.far.p50 - self.near.p50) / ROUND_TRIP_MS


@contextmanager
def going(host: Host, way: Way) -> Iterator[None]:
    """Let the mail of a relay go this way."""
    before = host.read(MAIN_CF)
    try:
        if way.settings:
            host.run(["postconf", "-e", *way.settings])
            host.run(["postfix", "reload"])
        yield
    finally:
        if way.settings:
            host.write(MAIN_CF, before)
            host.run(["postfix", "reload"])


@contextmanager
def far(lab: Lab, host: Host) -> Iterator[None]:
    """Put a distance between a relay and the others of the lab: its name leads to a proxy of this machine's."""
    address = str(lab.layout.ipv4(PROXY_NUMBER))
    run(["ip", "address", "replace", f"{address}/24", "dev", lab.layout.bridge])
    try:
        with distance(address, str(host.ipv4), PORTS, ONE_WAY_S):
            lab.publish(host.name, "A", [address])
            lab.withdraw(host.name, "AAAA")
            yield
    finally:
        lab.publish(host.name, "A", [str(host.ipv4)])
        lab.publish(host.name, "AAAA", [str(host.ipv6)])
        run(["ip", "address", "del", f"{address}/24", "dev", lab.layout.bridge])


def measured(source: Host, target: Host, count: int) -> Distribution:
    """Send `count` messages when the way is warm. Raises ``RelayError`` where one was not announced."""
    # The connections that they keep lead to where the other relay was. Debian 12 has Postfix in a unit of two names.
    source.run(["systemctl", "restart", "chatmail-transport.service", "postfix*.service"])
    relays = [Relay(host.name, str(host.ipv4)) for host in (source, target)]
    delays = measure(*relays, WARMING + count)[WARMING:]
    if lost := delays.count(None):
        raise RelayError(f"{lost} of {count} messages were not announced", f"make lab-ssh HOST={source.name}; mailq")
    return Distribution.of([delay for delay in delays if delay is not None])


def benchmark(lab: Lab, steps: Steps, count: int, sources: list[str]) -> Iterator[Found]:
    """Measure each way from each source."""
    for name in sources:
        source, target = lab.host(name), lab.host(next(other for other in HOSTS if other != name))
        for way in WAYS:
            with steps.step(f"{name}: {way.title}, {2 * count} messages"), going(source, way):
                near = measured(source, target, count)
                with far(lab, target):
                    yield Found(name, way.title, near, measured(source, target, count))


def table(found: list[Found]) -> Table:
    """What was found, for people."""
    made = Table("ms", "near p50", "p95", "far p50", "p95", "round trips", "n", box=None, header_style="bold")
    for column in made.columns[1:]:
        column.justify = "right"
    for name in dict.fromkeys(one.source for one in found):
        made.add_row(f"[bold]from {name}[/bold]")
        for one in (one for one in found if one.source == name):
            figures = (one.near.p50, one.near.p95, one.far.p50, one.far.p95)
            made.add_row(one.way, *(f"{value:.0f}" for value in figures), f"{one.round_trips:.1f}", str(one.far.n))
    return made


def main() -> int:
    """Run the benchmark. Returns 0 if every message was announced."""
    parser = argparse.ArgumentParser(prog="make bench-federation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one direction, fewer messages")
    quick = parser.parse_args().quick
    steps = Steps(Console())
    lab = Lab()
    try:
        with ExitStack() as stack:
            stack.enter_context(steps.step(f"The relays {' and '.join(HOSTS)}"))
            lab.up(HOSTS)
            configure(lab, HOSTS)
            deploy(lab.layout.salt / "etc", HOSTS, steps.console)
        found = list(benchmark(lab, steps, 10 if quick else 50, HOSTS[:1] if quick else HOSTS))
    except (RelayError, LabError, ImapError, smtplib.SMTPException) as error:
        steps.console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    REPORT.parent.mkdir(exist_ok=True)
    figures = [asdict(one) | {"round_trips": round(one.round_trips, 2)} for one in found]
    REPORT.write_text(json.dumps(figures, indent=2) + "\n")
    steps.console.print()
    steps.console.print(table(found))
    steps.console.print(
        f"\nfar: {ROUND_TRIP_MS:.0f} ms there and back; round trips: what that adds to the median;"
        " the message itself takes half of one",
        highlight=False,
        soft_wrap=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
