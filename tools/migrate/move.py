"""The steps of a move, in order."""

import contextlib
import ipaddress
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from rich.console import Console

from tools.host import Host, StepFailed, apply_to
from tools.migrate.notes import Notes
from tools.migrate.units import QUEUE_NOTES, QUEUES, UNITS
from tools.ssh import client

SCRIPTS = Path(__file__).parent
WITH_UNITS = {"stop": "present", "close": "present"}
OPEN_PORTS = (25, 80, 443, 465, 587, 993)
QUEUE_DIRS = [f"/var/spool/postfix/{name}" for name in QUEUES]


class Move:
    """The move of a relay from one host to another: its steps, in order."""

    def __init__(self, config_dir: Path, old: str, new: str, console: Console):
        self.config_dir, self.console = config_dir, console
        ssh = client(config_dir, [old, new], [])
        self.old, self.new = (Host(ssh, name, SCRIPTS, WITH_UNITS) for name in (old, new))
        self._closed_at: float | None = None

    @cached_property
    def relay(self) -> dict[str, str]:
        """The settings of the old host's last apply."""
        facts = self.old.run("facts")
        if not facts:
            raise StepFailed(f"{self.old.name} is no relay: it has no /etc/chatmail/relay.json.")
        return json.loads(facts)

    def run(self) -> None:
        """Do what is not done yet. Raises StepFailed or ApplyError."""
        old, new = Notes.of(self.old), Notes.of(self.new)
        self.check(old, new)
        steps = self.steps(old, new)
        for number, (what, step) in enumerate(steps, 1):
            self.console.print(f"{number}/{len(steps)} {what}", markup=False)
            begun = time.monotonic()
            told = step()
            seconds = time.monotonic() - begun
            self.console.print(f"    {seconds:.1f} s{f', {told}' if told else ''}", markup=False, soft_wrap=True)

    def steps(self, old: Notes, new: Notes) -> list[tuple[str, Callable[[], str | None]]]:
        """Return what is to be done yet: what it is, and the function that does it and tells about it."""
        steps = []
        if not old.moved:
            steps += [
                ("look at both hosts", self.look),
                ("copy keys and certificates", self.copy_keys),
                ("install the relay on the new host", self.install),
                ("copy mailboxes while the old host serves", self.copy_mailboxes),
            ]
        if not new.migration.get("complete"):
            steps += [("close the old host", self.close), ("copy what has changed, and the queue", self.copy_rest)]
        return [
            *steps,
            ("start the new host", self.start),
            ("forward from the old host", self.forward),
            ("apply to the new host, with its DNS records", self.finish),
        ]

    def reopen(self) -> None:
        """Call the move off and let the old host serve again. Raises StepFailed where the new one has begun to."""
        new = Notes.of(self.new)
        if new.migration.get("complete"):
            raise StepFailed(f"{self.new.name} serves already: mail that came to it would be lost from sight.")
        self.old.run("reopen", *UNITS)
        apply_to(self.config_dir, self.old, self.console)

    def check(self, old: Notes, new: Notes) -> None:
        """Raise StepFailed for hosts between which nothing can be moved, before anything is touched."""
        if old.machine == new.machine:
            raise StepFailed(
                f"{self.old.name} and {self.new.name} are one host. Put addresses into the roster: "
                "a name that has moved already leads to the new host."
            )
        if new.moved:
            raise StepFailed(f"The relay of {self.new.name} has itself moved to {new.moved}. Take a bare host.")
        if self.relay["ipv4_relay"]:
            raise StepFailed(f"The relay's name is the address of {self.old.name}, and cannot be had elsewhere.")
        if new.migration.get("complete") and not old.moved:
            raise StepFailed(
                f"{self.new.name} has the mail of a move before, but {self.old.name} serves. If that move was called "
                f"off, remove /etc/chatmail/migration and the mailboxes on {self.new.name}, then run this again."
            )
        if old.moved and not new.migration:
            raise StepFailed(f"The relay of {self.old.name} is on its way to {old.moved}, not to {self.new.name}.")
        if new.migration and new.migration["from"] != old.machine:
            raise StepFailed(f"{self.new.name} takes the mail of another host. Take a bare host.")
        if not new.migration and int(self.new.lines("count", self.relay["mailboxes_dir"])[0]):
            raise StepFailed(
                f"{self.new.name} has mailboxes in {self.relay['mailboxes_dir']}, which the move would delete."
            )

    # --- while the old host serves

    def look(self) -> str:
        """Both hosts have rsync, the new one room; the new one notes whose mail it is going to take."""
        for host in (self.old, self.new):
            host.run("install-rsync")
        taken, free = (
            int(host.run(script, self.relay["mailboxes_dir"]).strip().rstrip("M") or 0)
            for host, script in ((self.old, "taken"), (self.new, "free"))
        )
        if taken > free:
            raise StepFailed(f"The mailboxes take {taken} MB, and {self.new.name} has {free} MB for them.")
        self._note(complete=False)
        return f"the mailboxes take {taken} MB, there is room for {free} MB"

    def copy_keys(self) -> None:
        """Needed before the relay is installed, which would make new ones."""
        self._copy(["/etc/dkimkeys/", "/var/lib/acme/", "/etc/chatmail/turn-secret"])
        if not self.relay["tls_cert_path"].startswith("/var/lib/acme/"):
            # An operator's own pair is often a pair of links.
            self._copy([self.relay["tls_cert_path"], self.relay["tls_key_path"]], "--copy-links")

    def install(self) -> None:
        """Nobody looks for the relay there yet, so all of it may run, and is known to work before the old one stops."""
        # A bot would look for its relay by name, and find the old one.
        later = {"dns_check": False, "echobot": False, "operator_bot": False}
        apply_to(self.config_dir, self.new, self.console, later)
        there = json.loads(self.new.run("facts"))
        if there != self.relay:
            names = ", ".join(name for name, value in self.relay.items() if there[name] != value)
            raise StepFailed(f"{self.old.name} and {self.new.name} differ in {names}. Give both the same pillar.")

    def copy_mailboxes(self) -> str:
        """The bulk of it, which may take hours; the rest is what changes meanwhile."""
        self.new.run("stop", *UNITS)
        # 24: files that vanished, as messages do when their clients have fetched them.
        self._copy([self.relay["mailboxes_dir"] + "/"], "--chown=vmail:vmail", codes=(0, 24))
        return self._counts(self.new)

    # --- while nobody serves

    def close(self) -> str:
        """The old host accepts nothing more; port 25 says so with a temporary error, and senders try again."""
        self._closed_at = time.monotonic()
        self.old.run("write", "/etc/chatmail/moved", self.new.name)
        self.old.run("drain")
        self.old.run("close", *UNITS)
        return self._counts(self.old)

    def copy_rest(self) -> str:
        self.new.run("stop", *UNITS)
        self._copy([self.relay["mailboxes_dir"] + "/"], "--chown=vmail:vmail")
        self.copy_keys()
        # Owners are mapped by name; systemd makes a directory of state the user's who is new.
        self._copy(["/etc/chatmail-nocreate", self.relay["passdb_path"], self.relay["invites_dir"] + "/"])
        self._copy(["/var/lib/echobot/", "/var/lib/operator-bot/"])
        filters = [f"--include=/{name}/***" for name in (*QUEUES, *QUEUE_NOTES)]
        self._copy(["/var/spool/postfix/"], *filters, "--exclude=*")
        before, after = self._counts(self.old), self._counts(self.new)
        if before != after:
            raise StepFailed(f"The old host has {before}; the new one {after}. Run this again.")
        self._note(complete=True)
        return f"the new host has {after}"

    def start(self) -> str:
        self.new.run("start", *UNITS)
        missing = [str(port) for port in OPEN_PORTS if not self._addresses(self.old, self.new, port)]
        if missing:
            raise StepFailed(
                f"{self.old.name} cannot reach {self.new.name} at port {', '.join(missing)}. Let {self.old.name} in "
                "(firewall), or see `journalctl` there, then run this again."
            )
        return f"{time.monotonic() - self._closed_at:.0f} s after the old host closed" if self._closed_at else ""

    # --- while the new host serves

    def forward(self) -> str:
        """Who still has the old address reaches the new host by it."""
        addresses = filter(_is_address, self._addresses(self.old, self.new, 993)[::-1])
        families = {":" in address: address for address in addresses}
        apply_to(self.config_dir, self.old, self.console, {"proxy_target": list(families.values())}, "chatmail.proxy")
        return f"to {' and '.join(families.values())}"

    def finish(self) -> None:
        apply_to(self.config_dir, self.new, self.console)
        self.new.run("forget")

    # --- how

    def _note(self, *, complete: bool) -> None:
        note = {"from": Notes.of(self.old).machine, "complete": complete}
        self.new.run("write", "/etc/chatmail/migration", json.dumps(note))

    def _counts(self, host: Host) -> str:
        mailboxes, mails, queued = host.lines("count", self.relay["mailboxes_dir"], *QUEUE_DIRS)
        return f"{mailboxes} mailboxes with {mails} messages, and {queued} messages in the queue"

    def _addresses(self, source: Host, target: Host, port: int) -> list[str]:
        """Addresses of ``target`` at which ``source`` reaches a TCP port: its own, and the one in the roster."""
        candidates = [*target.lines("addresses"), target.address]
        return source.lines("reached", str(port), *dict.fromkeys(candidates))

    def _copy(self, paths: Sequence[str], *options: str, codes: Sequence[int] = (0,)) -> None:
        """Make files and directories (with a final slash) that the old host has the same on the new one."""
        existing = self.old.lines("existing", *paths)
        with self._key() as (address, ssh):
            for path in existing:
                source = f"{self.old.user}@{f'[{address}]' if ':' in address else address}:{path}"
                shown = ["--info=progress2"] if self.console.is_terminal else []
                rsync = ["-aH", "--delete", "--mkpath", *shown, *options, "-e", ssh, source, path]
                self.new.run("fetch", *rsync, show=bool(shown), codes=codes)

    @contextlib.contextmanager
    def _key(self) -> Iterator[tuple[str, str]]:
        """Let the new host read from the old one as long as this lasts; give its address, and rsync's ssh command."""
        addresses = self._addresses(self.new, self.old, self.old.port)
        if not addresses:
            raise StepFailed(
                f"{self.new.name} cannot reach ssh on {self.old.name} (port {self.old.port}). Let it in (firewall)."
            )
        public = self.new.run("make-key", self.old.run("host-keys").strip()).strip()
        read_only = f"{'sudo -n --preserve-env=SSH_ORIGINAL_COMMAND ' if self.old.sudo else ''}/usr/bin/rrsync -ro /"
        self.old.run("admit-key", self.old.user, public, read_only)
        try:
            yield (
                addresses[0],
                f"ssh -p {self.old.port} -i key -o BatchMode=yes -o IdentitiesOnly=yes -o HostKeyAlias=old "
                "-o StrictHostKeyChecking=yes -o UserKnownHostsFile=known_hosts",
            )
        finally:
            self.old.run("admit-key", self.old.user, "", "")
            self.new.run("drop-key")


def _is_address(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(text))
    return False
