"""
``python -m test.first_hour``: an operator's first hour, by the page and nothing else, on a bare host of the lab.

The commands are those of docs/first-relay.md, from the clone to two Delta Chat clients that talk; the host has a name,
and gets its certificate by ACME from the lab's authority. What the page has people do elsewhere, at the provider of the
domain, is done here: every record that a command prints is published. Not the page's are the settings that make a relay
fit into the lab.
"""

import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from test.lab import Host, Lab, authority
from test.lab.layout import CHECKOUT
from test.relay import chat
from test.support.pages import commands

DOMAIN = "hour.test"
COMMAND_TIMEOUT_S = 3000
# As a zone file has it, also within other text.
RECORD = re.compile(r"^ *(\S+)\. +\d+ +IN (A|AAAA|MX|CNAME|TXT|SRV|CAA|TLSA) +(\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Done:
    """What a command of the page came to."""

    command: str
    code: int
    seconds: float
    output: str

    @property
    def lines(self) -> int:
        return len(self.output.splitlines())


def page_commands() -> list[str]:
    """Return the commands of the page up to the relay that works, for the lab's host."""
    page = (CHECKOUT / "docs/first-relay.md").read_text().partition("## Afterwards")[0]
    return [command.replace("chat.example.org", DOMAIN) for command in commands(page)]


def lab_settings(lab: Lab, host: Host) -> dict:
    """Return what a relay must be told to live in the lab, whose addresses are not public and which has no way out."""
    return {
        "public_addresses": [str(host.ipv4), str(host.ipv6)],
        "dns_root_servers": [str(lab.name_server.ipv4)],
        "acme_directory_url": authority.DIRECTORY_URL,
        "iroh_relay": "",
        "max_load_1m": 1000,
    }


class Operator:
    """Somebody with a clone of the repository and ssh, who does what the page and the commands say."""

    def __init__(self, lab: Lab, host: Host, directory: Path) -> None:
        self._lab, self._host, self._directory = lab, host, directory
        self.clone = directory / "chatmail-formula"

    def run(self, command: str, cwd: Path) -> Done:
        """Run a command as it was typed; what it prints is shown, too."""
        begun = time.monotonic()
        path = f"PATH={shlex.quote(str(self._directory / 'bin'))}:$PATH"
        done = subprocess.run(
            ["bash", "-c", f"{path}; {command}"],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        print(f"$ {command}\n{done.stdout}", flush=True)
        return Done(command, done.returncode, time.monotonic() - begun, done.stdout)

    def has_ssh(self) -> None:
        """Have ssh and scp know the lab's hosts, as those of somebody who has a key there."""
        (self._directory / "bin").mkdir(parents=True)
        for name in ("ssh", "scp"):
            program = self._directory / "bin" / name
            program.write_text(f'#!/bin/sh\nexec /usr/bin/{name} -F {self._lab.layout.ssh_config} "$@"\n')
            program.chmod(0o755)

    def enter_records(self, text: str) -> list[str]:
        """Enter all records that were printed at the provider of the domain; return their names."""
        found: dict[tuple[str, str], list[str]] = {}
        for name, rdtype, value in RECORD.findall(text):
            if value not in found.setdefault((name, rdtype), []):
                found[name, rdtype].append(value)
        for (name, rdtype), values in found.items():
            self._lab.publish(name, rdtype, values)
        return [f"{name} {rdtype}" for name, rdtype in found]

    def add_settings(self, settings: dict) -> None:
        """Add settings to the pillar that was written."""
        text = yaml.safe_dump(settings, sort_keys=False)
        with (self.clone / "pillar/relay.sls").open("a") as file:
            file.write("".join(f"  {line}\n" for line in text.splitlines()))


def hour(lab: Lab, host: Host, directory: Path) -> list[Done]:
    """Do it all; return what each command came to. Raises ``RelayError`` where the clients cannot talk."""
    operator = Operator(lab, host, directory)
    operator.has_ssh()
    done = [operator.run(f"git clone --quiet {CHECKOUT} chatmail-formula", directory)]
    for command in page_commands():
        done.append(operator.run(command, operator.clone))
        print(f"entered: {', '.join(operator.enter_records(done[-1].output)) or 'nothing'}\n", flush=True)
        if command.startswith("./relay init"):
            operator.add_settings(lab_settings(lab, host))
    who = [("Alice", DOMAIN), ("Bob", DOMAIN)]
    with chat.clients(who, lab.resolver_argv, directory / "clients") as (alice, bob):
        alices, bobs = chat.make_contact(alice, bob)
        chat.round_trips(alice, alices, bob, bobs, 1)
    return done


def main() -> int:
    """Run the command. Returns 0 if the last apply succeeded and the clients have talked."""
    lab = Lab()
    lab.up([])
    directory = lab.layout.state / "first-hour"
    shutil.rmtree(directory, ignore_errors=True)
    if DOMAIN in lab.hosts:
        lab.remove(DOMAIN)
    host = lab.add(DOMAIN)
    begun = time.monotonic()
    try:
        done = hour(lab, host, directory)
    finally:
        lab.remove(DOMAIN)
        lab.withdraw(DOMAIN)
        shutil.rmtree(directory / "chatmail-formula", ignore_errors=True)
    minutes = (time.monotonic() - begun) / 60
    for one in done:
        print(f"{one.lines:>5} lines {one.seconds:>7.1f} s  exit code {one.code}  {one.command}")
    lines = sum(one.lines for one in done)
    print(f"{len(done)} commands, {minutes:.1f} minutes, {lines} lines; two clients have talked")
    return [one.code for one in done if one.command == "./relay apply"][-1]


if __name__ == "__main__":
    sys.exit(main())
