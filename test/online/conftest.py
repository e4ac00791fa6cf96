"""A relay that runs somewhere, asked from outside: ``make online RELAY=chat.example.org [RELAY2=...] [SSH=...]``."""

import ipaddress
import json
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from chatmail_outside import judge, look
from chatmail_services import PUBLIC
from test.relay import chat
from test.relay.chat import Client, clients
from test.relay.delivery import Relay, User, new_user

# What reports count apart from people's addresses.
PREFIX = "ci-"
new_login = partial(chat.new_login, prefix=PREFIX)


def relay_of(name: str) -> Relay:
    """The relay by its mail domain, which may be an IPv4 address."""
    bare = name.strip("[]")
    try:
        ipaddress.IPv4Address(bare)
    except ValueError:
        return Relay(name, name, PREFIX)
    return Relay(f"[{bare}]", bare, PREFIX)


def given(variable: str, example: str) -> str:
    if not (value := os.environ.get(variable)):
        pytest.skip(f"{variable}={example} was not given")
    return value


def on_host(command: str) -> str:
    """Run a shell command on the relay's host; returns what it prints. SSH_OPTIONS are more options for ssh."""
    options = shlex.split(os.environ.get("SSH_OPTIONS", ""))
    argv = ["ssh", "-o", "BatchMode=yes", *options, "--", os.environ["SSH"], command]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{shlex.join(argv)}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def ssh() -> Callable[[str], str]:
    """Runs a shell command on the relay's host."""
    given("SSH", "root@HOST")
    return on_host


def clean_up(relay: Relay) -> None:
    """Remove the mailboxes of this run. Without ssh they stay until the relay removes them as unused."""
    if not os.environ.get("SSH"):
        return
    root = json.loads(on_host("cat /etc/chatmail/relay.json"))["settings"]["mailboxes_dir"]
    for address in relay.created:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*@[\[\]\w.-]+", address)
        on_host(f"runuser -u vmail -- rm -rf -- {shlex.quote(f'{root}/{address}')}")


def closed_ports(name: str) -> str:
    """What is closed of all that has to be open, a line for each address; nothing where all is well.

    It takes 10 s at most.
    """
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        return f"{name} has no address ({error}): is the name right?"
    seen = look({"name": name, "addresses": sorted(addresses), "ports": list(PUBLIC), "certificate": None})
    says, findings = judge(seen)
    lines = [finding.what for finding in findings if finding.kind != "port-of-another"]
    if not any(one["state"] == "open" for one in seen):
        lines = lines or [f"{name} cannot be reached: {says}"]
    return "\n".join(lines)


@pytest.fixture(scope="session")
def relay() -> Iterator[Relay]:
    """The relay under test."""
    if not os.environ.get("RELAY"):
        pytest.exit("which relay? make online RELAY=chat.example.org", returncode=2)
    relay = relay_of(os.environ["RELAY"])
    if closed := closed_ports(relay.address):
        pytest.exit(closed, returncode=2)
    yield relay
    clean_up(relay)


@pytest.fixture(scope="session")
def relay2() -> Relay:
    """Another relay, for what goes between two."""
    return relay_of(given("RELAY2", "other.example.org"))


@pytest.fixture
def alice(relay: Relay) -> User:
    return new_user(relay)


@pytest.fixture
def bob(relay: Relay) -> User:
    return new_user(relay)


@pytest.fixture(scope="session")
def people(relay: Relay, tmp_path_factory) -> Iterator[list[Client]]:
    """Two Delta Chat clients on the relay."""
    names = (("Alice", relay.domain), ("Bob", relay.domain))
    with clients(names, list, tmp_path_factory.mktemp("cores"), new_login) as found:
        relay.created.extend(client.address for client in found)
        yield found
