"""Restarts, crashes and upgrades of our services refuse nobody: who connects meanwhile waits in systemd's socket."""

import contextlib
import http.client
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from test.integration.test_mail_by_http import post
from test.lab import Host, Lab
from test.relay.delivery import Relay, User, new_user
from test.support.mail_clients import unchecked_tls
from test.support.mailing import deliver, inbox, metadata_entry, submit
from test.support.messages import encrypted
from test.support.waiting import wait_until

SERVICES = (
    *("doveauth", "lastlogin", "chatmail-metadata", "chatmail-newemail", "filtermail", "filtermail-incoming"),
    *("chatmail-dane-policy", "chatmail-transport", "chatmail-turn"),
)
# `make bench-restarts` has the figures that we promise.
RESTARTS = int(os.environ.get("RESTARTS", "1"))
ROUNDS = int(os.environ.get("ROUNDS", "20"))
CLIENTS = 4
UNITS = "/etc/systemd/system"


def new_address(relay: Relay) -> int:
    """Ask for an address as an app does; the HTTP status."""
    with contextlib.closing(http.client.HTTPSConnection(relay.address, context=unchecked_tls(), timeout=60)) as client:
        client.request("POST", "/new")
        return client.getresponse().status


def use_everything(relay: Relay, local: User, remote: User, author: str, signed: bytes) -> None:
    """One after the other use all services of ``relay``; raises where one of them refuses."""
    # 429: nginx limits how many addresses one client asks for; without the service it would say 502.
    assert new_address(relay) in (200, 429)
    user = new_user(relay)
    with user.imap() as client:
        assert metadata_entry(client, "", "/shared/vendor/deltachat/turn") is not None
    for recipient in (local, remote):
        assert submit(user, recipient.address, encrypted(user.address, recipient.address)) is None
    assert deliver(relay.address, author, local.address, signed) is None
    assert post(relay, author, [local.address], signed) == (200, "250 OK")


@pytest.fixture
def journal(one_host: Host) -> Callable[[], list[str]]:
    """Returns what the services' clients on the host have logged since."""
    cursor = one_host.run(["journalctl", "-n", "0", "--show-cursor", "-o", "cat"]).stdout.split("cursor: ")[1].strip()
    units = ["--unit=dovecot", "--unit=postfix@-", "--unit=nginx"]

    def read() -> list[str]:
        argv = ["journalctl", f"--after-cursor={cursor}", *units, "-o", "cat", "--no-pager"]
        return one_host.run(argv).stdout.splitlines()

    return read


def test_nobody_is_refused_while_services_restart(one, one_host, two, foreign, journal):
    local, remote = new_user(one), new_user(two)
    author = f"someone@{foreign.name}"
    signed = foreign.signed(encrypted(author, local.address))
    with ThreadPoolExecutor(CLIENTS + 1) as pool:

        def restart() -> None:
            for _ in range(RESTARTS):
                for service in SERVICES:
                    one_host.run(["systemctl", "restart", service])

        restarts = pool.submit(restart)

        def client() -> int:
            rounds = 0
            while rounds < ROUNDS // CLIENTS or not restarts.done():
                use_everything(one, local, remote, author, signed)
                rounds += 1
            return rounds

        rounds = sum(found.result() for found in [pool.submit(client) for _ in range(CLIENTS)])
        restarts.result()
    assert len(inbox(local, 3 * rounds)) == 3 * rounds
    assert len(inbox(remote, rounds)) == rounds
    # What was tried again did not go wrong for the client, what failed did.
    assert [line for line in journal() if "dict" in line and "Error" in line] == []
    assert [line for line in journal() if ":8462" in line] == []
    print(f"{3 * rounds} logins, {4 * rounds} messages, {RESTARTS} restarts of each service")


def test_a_service_that_crashes_comes_back_and_its_socket_stays(two_host: Host):
    def show(unit: str, name: str) -> str:
        return two_host.run(["systemctl", "show", f"--property={name}", "--value", unit]).stdout.strip()

    drop_in = "/run/systemd/system/lastlogin.service.d/crash.conf"
    two_host.write(drop_in, "[Service]\nExecStart=\nExecStart=/bin/false\n")
    try:
        two_host.run(["systemctl", "daemon-reload"])
        two_host.run(["systemctl", "restart", "lastlogin"], check=False)
        waiting = ["python3", "-c", ASK]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(two_host.run, waiting)
            wait_until(lambda: int(show("lastlogin", "NRestarts")) >= 4)
            assert show("lastlogin.socket", "ActiveState") == "active"
            two_host.run(["rm", drop_in])
            two_host.run(["systemctl", "daemon-reload"])
            # The one that has been waiting since the first crash.
            assert answer.result().stdout == "O\n"
    finally:
        two_host.run(["rm", "-f", drop_in])
        two_host.run(["systemctl", "daemon-reload"])
    assert show("lastlogin", "ActiveState") == "active"


# To lastlogin's socket: a transaction without a change.
ASK = """
import socket
with socket.socket(socket.AF_UNIX) as client:
    client.connect("/run/chatmail-lastlogin/lastlogin.socket")
    client.sendall(b"B1\\nC1\\n")
    print(client.recv(10).decode(), end="")
"""


def test_services_of_before_that_listen_by_themselves_give_their_sockets_to_systemd(lab: Lab, two_host: Host):
    """An upgrade, also one that was interrupted when units were written and systemd did not know them yet."""
    alone = "[Service]\nExecStart=/usr/bin/python3 -m http.server --bind 127.0.0.1 {}\nRestart=always\n"
    ports = {"filtermail": 10080, "chatmail-dane-policy": 8462}
    new = {
        name: two_host.read(f"{UNITS}/{name}")
        for service in ports
        for name in (f"{service}.service", f"{service}.socket")
    }
    for service, port in ports.items():
        two_host.run(["systemctl", "stop", f"{service}.socket", f"{service}.service"])
        two_host.run(["rm", f"{UNITS}/{service}.socket"])
        two_host.write(f"{UNITS}/{service}.service", alone.format(port))
    two_host.run(["systemctl", "daemon-reload"])
    two_host.run(["systemctl", "start", *ports])
    for name in ("filtermail.service", "filtermail.socket"):
        two_host.write(f"{UNITS}/{name}", new[name])
    states = lab.salt_ssh(two_host.name, "state.apply", "chatmail.chatmaild")
    assert [state["comment"] for state in states.values() if not state["result"]] == []
    for name, content in new.items():
        assert two_host.read(f"{UNITS}/{name}") == content
        assert two_host.run(["systemctl", "is-active", name]).stdout == "active\n"
    listening = two_host.run(["systemctl", "list-sockets", "--no-legend", "--plain"]).stdout
    assert all(f"127.0.0.1:{port}" in listening for port in ports.values())
