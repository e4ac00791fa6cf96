"""
``python -m test.first_hour [KIND ...]``: the first hour on each kind of host, by default on a bare one.

The commands are those of docs/first-relay.md, from the clone to two Delta Chat clients that talk; the host has a name,
and gets its certificate by ACME from the lab's authority. What the page has people do elsewhere is done here as it is
printed: records are entered at the provider of the domain, ports opened in the provider's firewall, settings added. Not
the page's are the settings that make a relay fit into the lab.
"""

import argparse
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from test.first_hour.hosts import Kind, kinds
from test.first_hour.operator import Done, Operator
from test.lab import Host, Lab, authority
from test.lab.layout import CHECKOUT
from test.relay import chat
from test.relay.errors import RelayError
from test.support.pages import commands

APPLY = "./relay apply"
# The page's two, and those that a host which is not bare may need.
MAX_APPLIES = 5
CHAT = "two clients have talked"


@dataclass(frozen=True)
class Hour:
    """What became of a host: what was typed, in order, whether clients could chat, and how many minutes it took."""

    kind: str
    done: list[Done]
    outcome: str
    minutes: float

    @property
    def is_good(self) -> bool:
        return self.outcome == CHAT and [one.code for one in self.done if one.command == APPLY][-1] == 0


def page_commands(domain: str, user: str) -> list[str]:
    """Return the commands of the page up to the relay that works, for the lab's host."""
    page = (CHECKOUT / "docs/first-relay.md").read_text().partition("## Afterwards")[0]
    init = f"./relay init {domain}" + (f" --user {user}" if user != "root" else "")
    return [command.replace("./relay init chat.example.org", init) for command in commands(page)]


def lab_settings(lab: Lab, host: Host, kind: Kind) -> dict:
    """Return what a relay must be told to live in the lab, whose addresses are not public and which has no way out."""
    own = {"public_addresses": [str(host.ipv4), str(host.ipv6)]}
    return (own if kind.knows_its_addresses else {}) | {
        "dns_root_servers": [str(lab.name_server.ipv4)],
        "acme_directory_url": authority.DIRECTORY_URL,
        "iroh_relay": "",
        "max_load_1m": 1000,
    }


def typed(lab: Lab, host: Host, kind: Kind, operator: Operator, directory: Path) -> list[Done]:
    """Type the page's commands; return what each came to."""
    done = []
    if not operator.clone.exists():
        done.append(operator.run(f"git clone --quiet {CHECKOUT} chatmail-formula", directory))
    for command in page_commands(host.name, kind.user):
        done.append(operator.run(command, operator.clone))
        if command.startswith("./relay init"):
            operator.add_settings(lab_settings(lab, host, kind))
        if command == APPLY and sum(one.command == APPLY for one in done) > 1:
            while done[-1].code and done[-1].then and sum(one.command == APPLY for one in done) < MAX_APPLIES:
                done.append(operator.run(APPLY, operator.clone))
    return done


def chatted(lab: Lab, host: Host, directory: Path) -> str:
    """Have two clients of the relay talk; return ``CHAT``, or why they cannot."""
    who = [("Alice", host.name), ("Bob", host.name)]
    try:
        with chat.clients(who, lab.resolver_argv, directory) as (alice, bob):
            alices, bobs = chat.make_contact(alice, bob)
            chat.round_trips(alice, alices, bob, bobs, 1)
    except RelayError as error:
        return " ".join(str(error).split())
    return CHAT


def first_hour(lab: Lab, name: str, kind: Kind, directory: Path) -> Hour:
    """Return what becomes of a host of that kind, which is removed again. A clone that is there is used again."""
    domain = f"{name}-hour.test"
    if domain in lab.hosts:
        lab.remove(domain)
    host = lab.add(domain, kind.release)
    operator = Operator(lab, directory, kind.provider.close)
    try:
        with kind.provider:
            kind.prepare(host, kind.provider)
            if operator.clone.exists():
                subprocess.run(["git", "clean", "-qxfd", "-e", ".venv"], cwd=operator.clone, check=True)
            operator.has_ssh()
            begun = time.monotonic()
            done = typed(lab, host, kind, operator, directory)
            outcome = chatted(lab, host, directory / "clients")
            return Hour(name, done, outcome, (time.monotonic() - begun) / 60)
    finally:
        lab.remove(domain)
        for entered in operator.entered:
            lab.withdraw(entered)
        shutil.rmtree(directory / "clients", ignore_errors=True)


def table(hours: list[Hour]) -> str:
    """Return a line for each command, and one for each host."""
    lines = []
    for one in hours:
        lines.append(f"\n{one.kind}")
        for done in one.done:
            then = f"  -> {', '.join(done.then)}" if done.then else ""
            lines.append(
                f"  {done.lines:>4} lines {done.seconds:>6.0f} s  exit code {done.code:<2} {done.command}{then}"
            )
    lines.append("")
    for one in hours:
        printed = sum(done.lines for done in one.done)
        lines.append(
            f"{one.kind:<12} {len(one.done)} commands, {one.minutes:.1f} minutes, {printed} lines, "
            f"{'ok' if one.is_good else 'FAILED'}: {one.outcome}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the command. Returns 0 if the last apply on each host succeeded and the clients have talked."""
    parser = argparse.ArgumentParser(description="An operator's first hour.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(kinds())}, or all")
    names = parser.parse_args().kinds or ["bare"]
    chosen = kinds() if names == ["all"] else {name: kinds()[name] for name in names if name in kinds()}
    if unknown := set(names) - set(kinds()) - {"all"}:
        parser.error(f"no kind of host: {', '.join(unknown)}; there are {', '.join(kinds())}, or all")
    lab = Lab()
    lab.up([])
    directory = lab.layout.state / "first-hour"
    shutil.rmtree(directory, ignore_errors=True)
    hours = []
    for number, (name, kind) in enumerate(chosen.items(), 1):
        print(f"\n=== {name}, {number} of {len(chosen)}\n", flush=True)
        hours.append(first_hour(lab, name, kind, directory))
        print(table(hours), flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    return 0 if all(one.is_good for one in hours) else 1


if __name__ == "__main__":
    sys.exit(main())
