"""Somebody who does what the page and the commands say."""

import re
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from test.lab import Lab

COMMAND_TIMEOUT_S = 3000
# As a zone file has it, also within other text.
RECORD = re.compile(r"^ *(\S+)\. +\d+ +IN (A|AAAA|MX|CNAME|TXT|SRV|CAA|TLSA) +(\S.*)$", re.MULTILINE)
SETTING = re.compile(r"`(takeover: true)`")
ADDRESSES = re.compile(r"^ *(public_addresses: \[.+\])$", re.MULTILINE)
FIREWALL = re.compile(r" in, in the firewall of your provider| port 25 out;")


@dataclass(frozen=True)
class Done:
    """What a command of the page came to, and what the operator did then."""

    command: str
    code: int
    seconds: float
    output: str
    then: tuple[str, ...] = ()

    @property
    def lines(self) -> int:
        return len(self.output.splitlines())


class Operator:
    """Somebody with ssh who works in ``directory``; ``open_ports`` is what a visit to the provider's firewall does."""

    def __init__(self, lab: Lab, directory: Path, open_ports: Callable[[], None]) -> None:
        self._lab, self._directory, self._open_ports = lab, directory, open_ports
        self.clone = directory / "chatmail-formula"
        self.entered: set[str] = set()
        self._settings: set[str] = set()
        self._opened = False

    def run(self, command: str, cwd: Path) -> Done:
        """Run a command as it was typed, and do what it says; what it prints is shown, too."""
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
        seconds = time.monotonic() - begun
        print(f"$ {command}\n{done.stdout}", flush=True)
        then = tuple(self._obey(done.stdout))
        print(f"the operator: {', '.join(then) or 'nothing to do'}\n", flush=True)
        return Done(command, done.returncode, seconds, done.stdout, then)

    def has_ssh(self) -> None:
        """Have ssh and scp know the lab's hosts, as those of somebody who has a key there."""
        (self._directory / "bin").mkdir(parents=True, exist_ok=True)
        for name in ("ssh", "scp"):
            program = self._directory / "bin" / name
            program.write_text(f'#!/bin/sh\nexec /usr/bin/{name} -F {self._lab.layout.ssh_config} "$@"\n')
            program.chmod(0o755)

    def add_settings(self, settings: dict) -> None:
        """Add settings to the pillar that was written."""
        self._append(yaml.safe_dump(settings, sort_keys=False))

    def _append(self, text: str) -> None:
        with (self.clone / "pillar/relay.sls").open("a") as file:
            file.write("".join(f"  {line}\n" for line in text.splitlines()))

    def _obey(self, text: str) -> list[str]:
        """Do all that was said; return it, in words."""
        then = []
        if records := self._enter_records(text):
            then.append(f"enters {records} records")
        for setting in {*SETTING.findall(text), *ADDRESSES.findall(text)} - self._settings:
            self._settings.add(setting)
            # ./relay init writes it itself.
            if setting not in (self.clone / "pillar/relay.sls").read_text():
                self._append(setting)
            then.append(f"sets {setting}")
        if FIREWALL.search(" ".join(text.split())) and not self._opened:
            self._opened = True
            self._open_ports()
            then.append("opens the firewall")
        return then

    def _enter_records(self, text: str) -> int:
        """Enter all records that were printed at the provider of the domain; return how many."""
        found: dict[tuple[str, str], list[str]] = {}
        for name, rdtype, value in RECORD.findall(text):
            if value not in found.setdefault((name, rdtype), []):
                found[name, rdtype].append(value)
        for (name, rdtype), values in found.items():
            self._lab.publish(name, rdtype, values)
            self.entered.add(name)
        return sum(map(len, found.values()))
