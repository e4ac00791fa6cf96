"""
A relay moves to a new host while its clients are connected and others send to it. The tests tell one story, in order.
"""

import contextlib
import os
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from dns.resolver import Resolver

from test.integration.conftest import PERMISSIVE
from test.integration.test_certificates import start_authority
from test.lab import Host, Lab, authority
from test.lab.saltconf import SaltFailed
from test.relay.delivery import Relay, User, new_user
from test.support import messages
from test.support.mail_clients import ImapError, port_25, submission
from test.support.mailing import attempt, deliver, inbox, submit
from test.support.signing import ForeignDomain

DOMAIN, NEW, DOWN = "move.test", "new.test", "down.test"
MAILBOXES = f"/home/vmail/mail/{DOMAIN}"
# Steps are killed after so many seconds; a further run goes on. With KILL_IN=all each but the first, else the two next
# to the moment when the old host is closed: each run before that applies the relay again, which takes minutes.
KILLED_AFTER_S = {
    "copy keys": 0.5,
    "install": 15,
    "copy mailboxes": 0.5,
    "close": 0.5,
    "copy what has changed": 0.7,
    "start": 0.3,
    "forward": 3,
    "apply": 3,
}
KILL_IN = list(KILLED_AFTER_S) if os.environ.get("KILL_IN") == "all" else ["close", "copy what has changed"]
BEFORE = 30
SECRETS = "find /etc/dkimkeys/*.private /etc/chatmail/turn-secret /var/lib/acme/*/ -type f -exec sha256sum {} + | sort"


def set_pillar(lab: Lab, host: Host) -> None:
    settings = {
        **PERMISSIVE,
        "mail_domain": DOMAIN,
        "acme_directory_url": authority.DIRECTORY_URL,
        "public_addresses": [str(host.ipv4), str(host.ipv6)],
        "max_user_send_per_minute": 10_000,
        "max_user_send_burst_size": 1000,
    }
    lab.pillar(host.name, {"chatmail": settings})


@pytest.fixture(scope="module")
def old(lab: Lab) -> Iterator[Host]:
    start_authority(lab)
    host = lab.add(DOMAIN, packages=True)
    set_pillar(lab, host)
    # Nobody answers there, so mail for it stays in the queue.
    lab.publish(DOWN, "A", [str(lab.layout.ipv4(250))])
    lab.salt_ssh(DOMAIN, "state.apply", "chatmail")
    yield host
    lab.withdraw(DOWN)
    lab.remove(DOMAIN)


@pytest.fixture(scope="module")
def new(lab: Lab, old: Host) -> Iterator[Host]:
    """A bare host with the next release, on which the relay's users are going to have other numbers."""
    host = lab.add(NEW, "trixie")
    set_pillar(lab, host)
    for name in ("vmail", "opendkim"):
        number = old.run(["id", "-u", name]).stdout.strip()
        # Where somebody has it already, it is as well.
        host.run(["useradd", "--system", f"--uid={number}", f"not-{name}"], check=False)
    yield host
    for name in ("www", "mta-sts"):
        lab.withdraw(f"{name}.{DOMAIN}")
    lab.remove(NEW)


def relay_now(lab: Lab) -> Relay:
    """The relay, at the address to which its name leads now."""
    resolver = Resolver(configure=False)
    resolver.nameservers = [str(lab.name_server.ipv4)]
    return Relay(DOMAIN, str(resolver.resolve(DOMAIN, "A")[0]))


def marked(sender: str, recipient: str, identifier: str) -> bytes:
    return messages.encrypted(sender, recipient, headers=f"X-Number: {identifier}\r\n")


@dataclass
class Traffic:
    """Two clients wait for mail, one of them writes to the other, another domain does; all try until it works."""

    lab: Lab
    foreign: ForeignDomain
    writer: User
    reader: User
    stop: threading.Event = field(default_factory=threading.Event)
    accepted: set[str] = field(default_factory=set)
    attempts: Counter = field(default_factory=Counter)
    away_s: float = 0.0
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Traffic":
        for work, argument in (
            (self._send, self._write),
            (self._send, self._deliver),
            (self._wait, self.writer),
            (self._wait, self.reader),
        ):
            self._threads.append(threading.Thread(target=work, args=[argument]))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, once: Callable[[Relay, str], object]) -> None:
        number = 0
        while not self.stop.wait(0.3):
            identifier = f"{once.__name__}-{number}"
            self.attempts[identifier] += 1
            with contextlib.suppress(OSError, smtplib.SMTPException):
                refusal = once(relay_now(self.lab), identifier)
                if refusal is None:
                    self.accepted.add(identifier)
                    number += 1
                else:
                    assert 400 <= refusal[0] < 500, refusal

    def _write(self, relay: Relay, identifier: str):
        sender, recipient = self.writer.address, self.reader.address
        with submission(relay.address, sender, self.writer.password) as client:
            return attempt(client, sender, recipient, marked(sender, recipient, identifier))

    def _deliver(self, relay: Relay, identifier: str):
        sender, recipient = f"carol@{self.foreign.name}", self.reader.address
        return deliver(relay.address, sender, recipient, self.foreign.signed(marked(sender, recipient, identifier)))

    def _wait(self, user: User) -> None:
        away_since = None
        while not self.stop.is_set():
            there = User(relay_now(self.lab), user.address, user.password)
            with contextlib.suppress(OSError, ImapError), there.imap() as client:
                if away_since:
                    self.away_s = max(self.away_s, time.monotonic() - away_since)
                    away_since = None
                while not self.stop.is_set():
                    client.idle()
                    client.wait_exists(10**6, 1)
                    client.done()
            away_since = away_since or time.monotonic()
            self.stop.wait(0.1)


def migrate(lab: Lab, kill_in: str | None = None) -> str:
    """Run the move, or the rest of it, until it ends or is killed in a step; return what it printed."""
    printed = []
    argv = ["make", "migrate", f"FROM=-c {lab.layout.salt / 'etc'} {DOMAIN}", f"TO={NEW}"]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(argv, cwd=lab.layout.checkout, start_new_session=True, **output) as process:
        for line in process.stdout:
            printed.append(line)
            if kill_in and re.match(rf"\d+/\d+ {kill_in}", line):
                time.sleep(KILLED_AFTER_S[kill_in])
                os.killpg(process.pid, signal.SIGKILL)
                break
        # What goes on without it has the other end.
        process.stdout.close()
        code = process.wait(timeout=300)
    assert code == (-signal.SIGKILL if kill_in else 0), "".join(printed)
    return "".join(printed)


def reopen(lab: Lab) -> subprocess.CompletedProcess[str]:
    """Call the move off."""
    argv = [sys.executable, "-m", "tools.migrate", "--reopen", "-c", str(lab.layout.salt / "etc"), DOMAIN, NEW]
    return subprocess.run(argv, cwd=lab.layout.checkout, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def story() -> dict:
    """What a test tells the next ones."""
    return {}


@pytest.mark.timeout(1200)
def test_nothing_is_lost_though_the_move_is_killed_in_its_steps(lab, old, new, foreign, story):
    writer, reader = new_user(relay_now(lab)), new_user(relay_now(lab))
    for number in range(BEFORE):
        assert submit(writer, reader.address, marked(writer.address, reader.address, f"before-{number}")) is None
    inbox(reader, BEFORE)
    assert submit(writer, f"bob@{DOWN}", messages.encrypted(writer.address, f"bob@{DOWN}")) is None
    secrets = old.run(["sh", "-c", SECRETS]).stdout
    with Traffic(lab, foreign, writer, reader) as traffic:
        for step in KILL_IN:
            migrate(lab, kill_in=step)
            if step == "close":
                # Called off, and begun again.
                assert reopen(lab).returncode == 0
                new_user(relay_now(lab))
            if step == "copy what has changed":
                with pytest.raises(smtplib.SMTPConnectError, match="421"), port_25(str(old.ipv4)):
                    pass
        print(migrate(lab))
    assert relay_now(lab).address == str(new.ipv4)

    reader = User(relay_now(lab), reader.address, reader.password)
    expected = traffic.accepted | {f"before-{number}" for number in range(BEFORE)}
    found = Counter(re.search(rb"X-Number: (\S+)", message)[1].decode() for message in inbox(reader, len(expected)))
    print(f"{len(traffic.accepted)} messages accepted during the move, {traffic.attempts.total()} attempts")
    print(f"{found.total()} messages found; the clients were away for {traffic.away_s:.1f} s at most")
    assert expected - found.keys() == set()
    # A message comes twice only if its sender had to try again (RFC 5321 section 4.5.4.1).
    assert {name for name, times in found.items() if times > traffic.attempts.get(name, 1)} == set()
    assert len(traffic.accepted) > 20
    assert traffic.away_s > 0
    assert f"bob@{DOWN}" in new.run(["postqueue", "-j"]).stdout
    assert new.run(["sh", "-c", SECRETS]).stdout == secrets
    story["writer"] = writer


def test_everything_belongs_to_whom_it_belonged_by_name(old, new, story):
    assert old.run(["id", "-u", "vmail"]).stdout != new.run(["id", "-u", "vmail"]).stdout
    strangers = ["find", MAILBOXES, "-not", "(", "-user", "vmail", "-group", "vmail", ")"]
    assert new.run(strangers).stdout == ""
    assert new.run(["find", "/var/spool/postfix/deferred", "-type", "f", "-not", "-user", "postfix"]).stdout == ""


def test_who_has_the_old_address_still_reaches_the_relay_by_it(old, story):
    writer = User(Relay(DOMAIN, str(old.ipv4)), story["writer"].address, story["writer"].password)
    assert submit(writer, writer.address, messages.encrypted(writer.address, writer.address)) is None
    assert len(inbox(writer)) == 1
    assert old.run(["systemctl", "is-active", "postfix@-", "dovecot"], check=False).stdout == "inactive\ninactive\n"


def test_the_old_host_takes_no_relay_any_more(lab, old):
    with pytest.raises(SaltFailed, match=f"the relay of this host has moved to {NEW}"):
        lab.salt_ssh(DOMAIN, "state.apply", "chatmail.preflight")
    for unit in ("postfix", "dovecot", "nginx"):
        assert old.run(["systemctl", "is-enabled", unit], check=False).stdout == "masked\n"


def test_no_key_and_nothing_else_of_the_move_stays(old, new):
    assert "chatmail-migrate" not in old.read("/root/.ssh/authorized_keys")
    assert new.run(["test", "-e", "/run/chatmail-migrate"], check=False).returncode


def test_a_complete_move_is_not_called_off_nor_repeated(lab, new, story):
    writer = User(relay_now(lab), story["writer"].address, story["writer"].password)
    assert submit(writer, writer.address, messages.encrypted(writer.address, writer.address)) is None
    inbox(writer, 2)
    done = reopen(lab)
    assert done.returncode == 1
    assert "serves already" in done.stdout
    assert "copy" not in migrate(lab)
    inbox(writer, 2)
