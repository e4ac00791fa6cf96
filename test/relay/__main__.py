"""``python -m test.relay``: from a machine with nothing on it to two relays with clients that talk, and a report."""

import argparse
import contextlib
import smtplib
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from test.lab import Lab
from test.lab.errors import LabError
from test.relay import chat, delivery
from test.relay.deploy import configure, deploy
from test.relay.errors import RelayError
from test.relay.figures import Distribution, Figures
from test.relay.steps import Steps
from test.support.mail_clients import ImapError

CHECKOUT = Path(__file__).resolve().parents[2]
REPORT = CHECKOUT / "build" / "relay-report.json"
# On Debian 12 and on 13.
ONE, TWO = "_one.test", "_two.test"
HOSTS = (ONE, TWO)
ROUND_TRIPS = 10
DELIVERIES = 100
NOTICE_ROUNDS = 3


def run(steps: Steps) -> Figures:
    """Do it all. Raises ``RelayError`` or ``LabError`` at the first thing that does not work."""
    REPORT.unlink(missing_ok=True)
    lab = Lab()
    config_dir = lab.layout.salt / "etc"
    with steps.step(f"The lab: hosts {ONE} and {TWO}"):
        lab.up(HOSTS)
        configure(lab, HOSTS)
        bare = not any(_is_deployed(lab, host) for host in HOSTS)

    with steps.step("First apply, both hosts at once" if bare else "Apply; the hosts were deployed before"):
        started = time.monotonic()
        deploy(config_dir, HOSTS, steps.console)
        # Kept beside the hosts that it is about: a later run reports it too, as long as they are the same.
        first_apply = lab.layout.state / "first-apply-s"
        if bare:
            first_apply.write_text(f"{time.monotonic() - started:.1f}\n")
        first_apply_s = float(first_apply.read_text()) if first_apply.exists() else None

    with steps.step("Second apply, one host after the other; nothing should change"):
        again = [deploy(config_dir, [host], steps.console)[0] for host in HOSTS]
    changed = [f"{result.host}: {state.identifier}" for result in again for state in result.changed]
    if changed:
        raise RelayError(
            f"The second apply changed {len(changed)} states: {', '.join(changed)}",
            "Each of these states finds something to do every time: see its `changes` with plain salt-ssh.",
        )

    with steps.step("Delta Chat clients: Alice and Carol on one relay, Bob on the other"):
        trips_same, trips_across = _chat(lab, steps)

    relays = {host: delivery.Relay(host, str(lab.host(host).ipv4)) for host in HOSTS}
    with steps.step("Delivery to idle clients"):
        with steps.doing(f"{DELIVERIES} messages within {ONE}"):
            same = delivery.measure(relays[ONE], relays[ONE], DELIVERIES)
        with steps.doing(f"{DELIVERIES} messages within {TWO}"):
            same_13 = delivery.measure(relays[TWO], relays[TWO], DELIVERIES)
        with steps.doing(f"{DELIVERIES} messages from {ONE} to {TWO}"):
            across = delivery.measure(relays[ONE], relays[TWO], DELIVERIES)
        moments = len(delivery.MOMENTS_S)
        with steps.doing(f"{NOTICE_ROUNDS} rounds of messages at {moments} moments after IDLE, on each"):
            lost, sent = map(
                sum, zip(*(delivery.lost_notifications(relays[host], NOTICE_ROUNDS) for host in HOSTS), strict=True)
            )

    figures = Figures(
        first_apply_s=first_apply_s,
        second_apply_s=round(max(result.seconds for result in again), 1),
        second_apply_changed=len(changed),
        delivery_same_ms=Distribution.of([delay for delay in same if delay is not None]),
        delivery_same_13_ms=Distribution.of([delay for delay in same_13 if delay is not None]),
        delivery_across_ms=Distribution.of([delay for delay in across if delay is not None]),
        round_trip_same_ms=Distribution.of(trips_same),
        round_trip_across_ms=Distribution.of(trips_across),
        notifications_sent=sent + len(same) + len(same_13) + len(across),
        notifications_lost=lost + sum(delays.count(None) for delays in (same, same_13, across)),
        messages_ok=True,
    )
    figures.write(REPORT)
    return figures


def _chat(lab: Lab, steps: Steps) -> tuple[list[float], list[float]]:
    """Let three clients talk; returns the round trips' seconds within a relay and across."""
    people = (("Alice", ONE), ("Bob", TWO), ("Carol", ONE))
    directory = lab.layout.state / "clients"
    with contextlib.ExitStack() as stack:
        with steps.doing("logging in, which creates the accounts"):
            alice, bob, carol = stack.enter_context(chat.clients(people, lab.resolver_argv, directory))
        steps.note(f"accounts created: {alice.address}, {bob.address}, {carol.address}")
        trips = []
        for other in (carol, bob):
            with steps.doing(f"securejoin of {alice.name} and {other.name}"):
                alices, others = chat.make_contact(alice, other)
            with steps.doing(f"{alice.name} and {other.name} write to each other"):
                trips.append(chat.round_trips(alice, alices, other, others, ROUND_TRIPS))
            steps.note(f"{alice.name} and {other.name}: {2 * ROUND_TRIPS} encrypted messages arrived as sent")
    return trips[0], trips[1]


def _is_deployed(lab: Lab, host: str) -> bool:
    return lab.host(host).run(["test", "-e", "/etc/chatmail"], check=False).returncode == 0


def print_report(figures: Figures, steps: Steps) -> None:
    """Print the figures, and how to go on by hand."""
    table = Table.grid(padding=(0, 3))
    for what, value in figures.rows():
        table.add_row(f"  {what}", value)
    steps.console.print()
    steps.console.print(table, highlight=False)
    config_dir = (Lab().layout.salt / "etc").relative_to(CHECKOUT)
    hints = (
        ("log in", f"make lab-ssh HOST={ONE}"),
        ("apply by hand", f".venv/bin/salt-ssh -c {config_dir} {ONE} state.apply chatmail"),
        ("take it down", "make lab-down"),
    )
    steps.console.print()
    for what, command in hints:
        steps.console.print(f"  {what:<14} {command}", highlight=False, markup=False, soft_wrap=True)
    steps.console.print(f"  {'figures':<14} {REPORT.relative_to(CHECKOUT)}", highlight=False)


def main() -> int:
    """Run the command. Returns 0 only if all of it worked and no notice was lost."""
    argparse.ArgumentParser(prog="python -m test.relay", description=__doc__).parse_args()
    steps = Steps(Console())
    try:
        figures = run(steps)
    except RelayError as error:
        steps.console.print(f"\n[red]✗[/red] {error}\n  {error.next_step}", highlight=False, soft_wrap=True)
        return 1
    except (ImapError, smtplib.SMTPException, OSError) as error:
        steps.console.print(f"\n✗ {type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True)
        steps.console.print(f"  Look at the relays' logs: make lab-ssh HOST={ONE}, then journalctl -n 100")
        return 1
    except LabError as error:
        steps.console.print(f"\n✗ The lab: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        steps.console.print("\nInterrupted. `make relay` goes on from here; `make lab-down` removes everything.")
        return 130
    print_report(figures, steps)
    if figures.notifications_lost:
        steps.console.print(f"\n✗ {figures.notifications_lost} messages were not announced in time.", style="red")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
