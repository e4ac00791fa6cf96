"""
How fast a relay is for its clients, wherever it runs: ``make bench RELAY=chat.example.org [RELAY2=other.example.org]``.

Prints a table, and writes the figures as JSON and all samples as a picture, to be looked at in a browser.
"""

import argparse
import json
import math
import os
import smtplib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jinja2
from rich.console import Console
from rich.table import Table

from test.online.conftest import new_login, relay_of
from test.relay import chat, delivery
from test.relay.delivery import BURST, LOST_AFTER_S, Relay, User, new_user
from test.relay.errors import RelayError
from test.relay.figures import percentile
from test.relay.steps import Steps
from test.support import messages
from test.support.mail_clients import ImapClient, ImapError, send, submission

OUTPUT = Path(__file__).resolve().parents[2] / "build" / "bench"
TEMPLATE = Path(__file__).with_name("relay.svg.j2")


def timed(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def connections(relay: Relay, rounds: int) -> dict[str, list[float]]:
    """Seconds of a TLS connection up to the greeting, the first login, which makes the address, and the next ones."""
    samples: dict[str, list[float]] = {"connect": [], "create": [], "login": [], "submit": []}
    for _ in range(rounds):
        samples["connect"].append(timed(lambda: ImapClient(relay.address).close()))
        user = User(relay, *chat.credentials(relay.domain, relay.prefix))
        samples["create"].append(timed(lambda user=user: user.imap().close()))
        samples["login"].append(timed(lambda user=user: user.imap().close()))
        samples["submit"].append(timed(lambda user=user: login_for_submission(user)))
    return samples


def login_for_submission(user: User) -> None:
    with submission(user.relay.address, user.address, user.password):
        pass


def bursts(relay: Relay, rounds: int) -> list[float]:
    """Seconds until all of ten messages that are sent at once are announced to an idle client."""
    samples = []
    for _ in range(rounds):
        reader, writer = new_user(relay), new_user(relay)
        message = messages.encrypted(writer.address, reader.address)
        with reader.imap() as inbox, submission(relay.address, writer.address, writer.password) as client:
            inbox.idle()
            started = time.monotonic()
            for _ in range(BURST):
                send(client, writer.address, [reader.address], message)
            announced = inbox.wait_exists(BURST, 10 * LOST_AFTER_S)
        if announced is None:
            raise TimeoutError(f"not all of {BURST} messages were announced to {reader.address}")
        samples.append(announced - started)
    return samples


def conversation(relay: Relay, other: Relay, rounds: int) -> list[float]:
    """Seconds from a Delta Chat client's message to the answer of the other one."""
    people = (("Alice", relay.domain), ("Bob", other.domain))
    with (
        tempfile.TemporaryDirectory() as directory,
        chat.clients(people, list, Path(directory), new_login) as (one, two),
    ):
        return chat.round_trips(one, *_contact(one, two), rounds)


def _contact(one: chat.Client, two: chat.Client):
    ones, twos = chat.make_contact(one, two)
    return ones, two, twos


def measure(relay: Relay, other: Relay | None, rounds: int, steps: Steps) -> dict[str, list[float]]:
    """All samples in seconds, by what was measured."""
    with steps.step(f"{rounds} connections and logins"):
        found = connections(relay, rounds)
    samples = {
        "Connect (TLS, IMAP greeting)": found["connect"],
        "First login, creates the address": found["create"],
        "Login (IMAP)": found["login"],
        "Login (submission)": found["submit"],
    }
    with steps.step(f"{2 * rounds} messages to an idle client"):
        noticed = delivery.measure(relay, relay, 2 * rounds)
        samples["Sent until idle client knows"] = [delay for delay in noticed if delay is not None]
        if lost := noticed.count(None):
            steps.note(f"{lost} of {len(noticed)} were not announced within {LOST_AFTER_S:.0f} s")
    with steps.step(f"Bursts of {BURST} messages"):
        samples[f"Burst of {BURST}, until all are known"] = bursts(relay, max(3, rounds // 4))
    with steps.step("Two Delta Chat clients"):
        samples["Ping-pong of two clients"] = conversation(relay, relay, max(3, rounds // 4))
    if other:
        with steps.step(f"To {other.domain}"):
            across = delivery.measure(relay, other, rounds)
            samples["Sent until other relay's client knows"] = [delay for delay in across if delay is not None]
            samples["Ping-pong across relays"] = conversation(relay, other, max(3, rounds // 4))
    return samples


def summary(samples: dict[str, list[float]]) -> list[dict]:
    """Percentiles in milliseconds."""
    return [
        {
            "what": what,
            "n": len(seconds),
            **{f"p{percent}": round(1000 * percentile(seconds, percent), 1) for percent in (50, 95, 99)},
        }
        for what, seconds in samples.items()
    ]


def table(title: str, rows: list[dict]) -> Table:
    made = Table(title=title, title_justify="left", box=None, padding=(0, 2), header_style="bold")
    made.add_column("milliseconds")
    for column in ("p50", "p95", "p99", "n"):
        made.add_column(column, justify="right")
    for row in rows:
        made.add_row(row["what"], *(f"{row[key]:,.0f}" for key in ("p50", "p95", "p99")), str(row["n"]))
    return made


def picture(title: str, samples: dict[str, list[float]], rows: list[dict]) -> str:
    """An SVG with every sample on a logarithmic axis, and the percentiles marked."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["log10"] = math.log10
    milliseconds = {what: [max(1.0, 1000 * value) for value in seconds] for what, seconds in samples.items()}
    return environment.from_string(TEMPLATE.read_text()).render(title=title, samples=milliseconds, rows=rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("relay", help="mail domain of the relay, or its IPv4 address")
    parser.add_argument("relay2", nargs="?", help="another relay, for what goes between two")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "20")))
    arguments = parser.parse_args()
    steps = Steps(Console())
    relay = relay_of(arguments.relay)
    other = relay_of(arguments.relay2) if arguments.relay2 else None
    try:
        samples = measure(relay, other, arguments.rounds, steps)
    except RelayError as error:
        steps.console.print(f"\n✗ {error}\n  {error.next_step}", style="red", markup=False, soft_wrap=True)
        return 1
    except (ImapError, smtplib.SMTPException, OSError) as error:
        steps.console.print(f"\n✗ {type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True)
        steps.console.print(f"  Is {arguments.relay} up? On the controller: salt-ssh relay chatmail_relay.status")
        return 1
    rows = summary(samples)
    title = f"{arguments.relay}, {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC"
    OUTPUT.mkdir(parents=True, exist_ok=True)
    name = arguments.relay.strip("[]")
    (OUTPUT / f"{name}.json").write_text(json.dumps({"title": title, "milliseconds": rows}, indent=2) + "\n")
    (OUTPUT / f"{name}.svg").write_text(picture(title, samples, rows))
    steps.console.print()
    steps.console.print(table(title, rows))
    steps.console.print(f"\n  {OUTPUT / name}.json and .svg", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
