"""Mistakes of an operator, each made by itself: what is printed says what is wrong, where, and what to do.

``MISTAKES`` is the table: what was done wrong, what is printed of it, and that no more than a few lines are. Every one
ends with exit code 1.
"""

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from test.integration.conftest import PERMISSIVE
from test.integration.test_provider_hosts import apt_install
from test.lab import Host, Lab
from test.salt.minion import CHECKOUT

NAME = "_mistakes.test"
MOST_LINES = 16


@dataclasses.dataclass
class Operator:
    """Somebody with a configuration of their own, in a directory of their own, for one bare host."""

    directory: Path
    host: Host
    entry: dict

    def write(self, path: str, text: str) -> None:
        (self.directory / path).parent.mkdir(exist_ok=True)
        (self.directory / path).write_text(text)

    def roster(self, **changes) -> None:
        entry = {key: value for key, value in (self.entry | changes).items() if value is not None}
        self.write("etc/roster", yaml.safe_dump({"relay": entry}))

    def apply(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "tools.apply", "-c", self.directory / "etc", *(arguments or ["relay"])]
        return subprocess.run(
            argv,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Host]:
    """A host with a user who may use sudo."""
    host = lab.add(NAME)
    apt_install(host, "sudo")
    host.write("/etc/sudoers.d/debian", "debian ALL=(ALL) NOPASSWD: ALL\n", mode="0440")
    host.run(["useradd", "--create-home", "--shell", "/bin/bash", "debian"])
    key = "install -d -o debian -m 700 ~debian/.ssh && install -o debian /root/.ssh/authorized_keys ~debian/.ssh/"
    host.run(["sh", "-c", key])
    yield host
    lab.remove(NAME)


@pytest.fixture
def operator(lab: Lab, host: Host, tmp_path: Path) -> Operator:
    """All is as it should be, before the test."""
    master = yaml.safe_load((lab.layout.salt / "etc/master").read_text())
    master |= {
        "root_dir": str(tmp_path / "run"),
        "roster_file": str(tmp_path / "etc/roster"),
        "pillar_roots": {"base": [str(tmp_path / "pillar")]},
        "ssh_log_file": str(tmp_path / "run/ssh.log"),
    }
    entry = yaml.safe_load(lab.layout.roster.read_text())[NAME]
    # A shared connection would know no other key.
    entry["ssh_options"] = [one for one in entry["ssh_options"] if not one.startswith("Control")]
    operator = Operator(tmp_path, host, entry)
    operator.write("etc/master", yaml.safe_dump(master))
    operator.write("pillar/top.sls", "base:\n  relay:\n    - relay\n")
    operator.write("pillar/relay.sls", yaml.safe_dump({"chatmail": {"mail_domain": NAME, **PERMISSIVE}}))
    operator.roster()
    return operator


def other_key(operator: Operator) -> str:
    """A private key that the host does not know."""
    key = operator.directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return str(key)


def known_hosts(operator: Operator, text: str) -> list[str]:
    """Options by which ssh knows the hosts of ``text``."""
    operator.write("known_hosts", text)
    return [f"UserKnownHostsFile={operator.directory}/known_hosts", "StrictHostKeyChecking=yes"]


def change_host_key(operator: Operator) -> None:
    public = (Path(other_key(operator)).with_suffix(".pub")).read_text().rpartition(" ")[0]
    operator.roster(ssh_options=known_hosts(operator, f"{operator.host.ipv4} {public}\n"))


MISTAKES: dict[str, tuple[Callable[[Operator], object], str]] = {
    "no roster": (
        lambda one: (one.directory / "etc/roster").unlink(),
        "There is no roster at {dir}/etc/roster. Copy etc/roster.example there",
    ),
    "a tab in the roster": (
        lambda one: one.write("etc/roster", "relay:\n\thost: 192.0.2.1\n"),
        "{dir}/etc/roster, line 2: it is indented by a tab; YAML takes spaces.",
    ),
    "another name in the roster": (
        lambda one: one.write("etc/roster", "chat:\n  host: 192.0.2.1\n"),
        "No host in {dir}/etc/roster matches relay; it has: chat.",
    ),
    "a tab in the pillar": (
        lambda one: one.write("pillar/relay.sls", "chatmail:\n\tmail_domain: x\n"),
        "{dir}/pillar/relay.sls, line 2: it is indented by a tab; YAML takes spaces.",
    ),
    "no top.sls": (
        lambda one: (one.directory / "pillar/top.sls").unlink(),
        "{dir}/pillar/top.sls does not exist; it says whose settings are in which file.",
    ),
    "a file that is not there in top.sls": (
        lambda one: one.write("pillar/top.sls", "base:\n  relay:\n    - relais\n"),
        "{dir}/pillar/top.sls, line 3: there is no {dir}/pillar/relais.sls.",
    ),
    "another host in top.sls": (
        lambda one: one.write("pillar/top.sls", "base:\n  relais:\n    - relay\n"),
        "{dir}/pillar/top.sls has no settings for relay; it names relais.",
    ),
    "an unknown host key": (
        lambda one: one.roster(ssh_options=known_hosts(one, "")),
        "compare the key with the host's: ssh -p 22 root@{address}",
    ),
    "a host key that has changed": (change_host_key, "ssh-keygen -R"),
    "a host that wants a password": (
        lambda one: one.roster(priv=other_key(one), ssh_options=[*one.entry["ssh_options"], "IdentitiesOnly=yes"]),
        "Give root there your public key (ssh-copy-id -p 22 root@{address})",
    ),
    "a host that is down": (
        lambda one: one.roster(port=9),
        "Is the host up, and does sshd listen on that port (`port:` in the roster)?",
    ),
    "a user without sudo": (
        lambda one: one.roster(user="debian"),
        "this runs as debian, not as root: set `sudo: True` for the host in the roster",
    ),
    "a setting that is misspelt": (
        lambda one: one.write("pillar/relay.sls", "chatmail:\n  mail_domian: x.test\n"),
        "mail_domian: there is no such setting; did you mean mail_domain?",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_few_lines_that_say_what_to_do(lab, operator, mistake):
    """What is printed is kept in build/mistakes, for people to read."""
    make, told = MISTAKES[mistake]
    make(operator)
    done = operator.apply()
    kept = lab.layout.checkout / "build/mistakes" / f"{mistake.replace(' ', '-')}.txt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(f"{mistake}\n\n{done.stdout}\nexit code {done.returncode}\n")
    # Lines are broken at the width of the terminal.
    said = " ".join(done.stdout.split())
    assert told.format(dir=operator.directory, address=operator.host.ipv4) in said
    assert "Traceback" not in said
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) <= MOST_LINES
    assert operator.host.run(["test", "-e", "/etc/chatmail"], check=False).returncode


def test_a_user_with_sudo_applies_as_root_does(operator):
    operator.roster(user="debian", sudo=True)
    done = operator.apply("relay", "--sls", "chatmail.preflight")
    assert done.returncode == 0, done.stdout
    assert operator.host.run(["stat", "--format=%U", "/etc/chatmail/relay.json"]).stdout == "root\n"
