"""
Move a relay to a new host: ``python -m tools.migrate OLD NEW``, two names of the roster that share the relay's pillar.

One sequence of steps. Each may be repeated, so what was interrupted, wherever, is run again and goes on. What is done
is noted on the hosts themselves: ``/etc/chatmail/moved`` on the old one from the moment at which it closes, and
``/etc/chatmail/migration`` on the new one, which says whose mail it takes, and when it has it all. From then on nothing
is copied any more: the new host may have mail of its own.

The new host fetches the data from the old one, without a detour by the controller, with an ssh key that is made for
this, may read and nothing else, and lasts ten minutes.
"""

import argparse
import contextlib
import fcntl
import ipaddress
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import salt.client.ssh
from rich.console import Console

from tools.apply import CONNECT_TIMEOUT_S, ApplyError, apply, salt_ssh
from tools.apply_display import summary

ACTIVATED = (
    *("filtermail", "filtermail-incoming", "doveauth", "lastlogin", "chatmail-metadata", "chatmail-newemail"),
    *("chatmail-dane-policy", "chatmail-turn"),
)
"""Services that whoever connects to their sockets starts again."""
UNITS = (
    *("chatmail-expire.timer", "chatmail-fsreport.timer", "chatmail-metrics.timer", "acmetool.timer"),
    *("chatmail-expire", "certificate-reload.path", "certificate-reload.timer", "coturn"),
    *("postfix", "postfix@-", "chatmail-sasl.socket", "chatmail-sasl", "nginx", "dovecot"),
    *("postfix-mta-sts-resolver", "opendkim", "iroh-relay", "chatmail-network-share", "echobot", "mtail"),
    *(f"{service}.{kind}" for kind in ("socket", "service") for service in ACTIVATED),
)
"""All of a relay that runs, as far as it is there, in the order in which it stops."""
QUEUES = ("incoming", "active", "deferred", "hold", "maildrop")
"""Postfix's directories of messages; beside them are notes on these."""
QUEUE_NOTES = ("bounce", "defer", "trace", "flush")
OPEN_PORTS = (25, 80, 443, 465, 587, 993)
BUSY_PAUSE_S = 2.0

# Each script gets its arguments as "$1" and so on, and runs as root.
INSTALL_RSYNC = """
command -v rsync > /dev/null && exit
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update && apt-get -qq install --no-install-recommends rsync > /dev/null
"""
# On standard output, as JSON, what the last apply left.
FACTS = """
test -e /etc/chatmail/relay.json || exit 0
PYTHONPATH=/usr/local/lib/chatmaild python3 -P -c '
import json
from chatmaild import invites
with open("/etc/chatmail/relay.json") as file:
    settings = json.load(file)["settings"] | {"invites_dir": str(invites.DIRECTORY)}
names = "mail_domain", "ipv4_relay", "mailboxes_dir", "passdb_path", "invites_dir", "tls_cert_path", "tls_key_path"
print(json.dumps({name: settings[name] or "" for name in names}))'
"""
NOTES = """
cat /etc/machine-id
cat /etc/chatmail/moved 2> /dev/null || echo
cat /etc/chatmail/migration 2> /dev/null || echo
"""
WRITE = """
mkdir -p "$(dirname "$1")" && printf '%s\\n' "$2" > "$1.new" && sync "$1.new" && mv "$1.new" "$1"
"""
# Megabytes that are taken on the one host, and free on the other.
TAKEN = 'du --summarize --block-size=M "$1" | cut --fields=1'
FREE = (
    'df --output=avail --block-size=M "$(while [ ! -e "$1" ]; do set -- "$(dirname "$1")"; done; echo "$1")" | tail -1'
)
EXISTING = 'for path; do if [ -e "$path" ]; then echo "$path"; fi; done'
# Mailboxes, messages in them, messages in the queue.
COUNT = """
mailboxes=$1; shift; cd /var/spool/postfix
find "$mailboxes" -mindepth 1 -maxdepth 1 -type d -name '*@*' | wc -l
find "$mailboxes" -type f '(' -path '*/cur/*' -o -path '*/new/*' ')' | wc -l
find "$@" -type f | wc -l
"""
# Leaves of "$@" what the host has, and is not masked.
PRESENT = """
for unit; do
  shift
  if systemctl cat -- "$unit" > /dev/null 2>&1; then set -- "$@" "$unit"; fi
done
"""
STOP = (
    PRESENT
    + """
if [ $# -gt 0 ]; then systemctl stop -- "$@"; fi
"""
)
START = """
for unit; do
  shift
  if systemctl --quiet is-enabled -- "$unit" 2> /dev/null; then set -- "$@" "$unit"; fi
done
systemctl start -- "$@"
"""
# Nothing new is accepted, and what was is delivered as far as possible, so that no delivery is cut short.
DRAIN = """
postfix status 2> /dev/null || exit 0
postconf -e master_service_disable=inet && postfix reload || exit
cd /var/spool/postfix
for i in $(seq 20); do
  if [ -z "$(find incoming active maildrop -type f -print -quit)" ]; then exit; fi
  sleep 0.5
done
"""
# A later boot, package or apply does not bring it back; unit files of ours, in /etc, cannot be masked.
CLOSE = (
    PRESENT
    + """
if postfix status 2> /dev/null; then systemctl stop postfix || exit; fi
systemctl --quiet disable --now -- "$@" 2> /dev/null
for unit; do
  shift
  if systemctl --quiet is-active -- "$unit"; then echo "$unit does not stop" >&2; exit 1; fi
  case $(systemctl show --property=FragmentPath --value -- "$unit") in
    (/etc/*) ;;
    (*) set -- "$@" "$unit" ;;
  esac
done
if [ $# -gt 0 ]; then systemctl --quiet mask -- "$@" || exit; fi
cat > /etc/systemd/system/chatmail-moved.socket << END
[Unit]
Description=Ports for mail of a relay that moves to another host
[Socket]
ListenStream=25
ListenStream=587
Accept=yes
MaxConnections=64
TriggerLimitIntervalSec=0
[Install]
WantedBy=sockets.target
END
cat > /etc/systemd/system/chatmail-moved@.service << 'END'
[Unit]
Description=Asks to try again later (RFC 5321 section 3.8)
CollectMode=inactive-or-failed
[Service]
ExecStart=/usr/bin/echo -ne "421 4.3.2 This relay moves to another host, try again in a few minutes\\r\\n"
StandardOutput=socket
DynamicUser=yes
END
systemctl daemon-reload && systemctl --quiet enable --now chatmail-moved.socket
"""
)
REOPEN = """
systemctl --quiet disable --now chatmail-moved.socket 2> /dev/null
rm -f /etc/systemd/system/chatmail-moved* /etc/chatmail/moved
systemctl --quiet unmask -- "$@" 2> /dev/null
systemctl daemon-reload
"""
MAKE_KEY = """
umask 077
mkdir -p /run/chatmail-migrate && cd /run/chatmail-migrate && rm -f key key.pub
ssh-keygen -q -t ed25519 -N '' -C chatmail-migrate -f key
printf '%s\\n' "$1" > known_hosts
cat key.pub
"""
# sshd(8), AUTHORIZED_KEYS: the key only lets rsync read.
ADMIT_KEY = """
umask 077
home=$(getent passwd "$1" | cut -d: -f6) && group=$(id -gn "$1") || exit
install -d -m 0700 -o "$1" -g "$group" "$home/.ssh"
cd "$home/.ssh" && touch authorized_keys && chown "$1:$group" authorized_keys
sed -i -e '/ chatmail-migrate$/d' -e '$a\\' authorized_keys
if [ -n "$2" ]; then
  printf 'restrict,expiry-time="%s",command="%s" %s\\n' "$(date -u -d '10 minutes' +%Y%m%d%H%MZ)" "$3" "$2" \
    >> authorized_keys
fi
"""
HOST_KEYS = "cut --delimiter=' ' --fields=1,2 /etc/ssh/ssh_host_*_key.pub | sed 's/^/old /'"
# One after the other: an rsync whose controller was interrupted may still be at work.
FETCH = 'cd /run/chatmail-migrate && exec flock lock rsync "$@"'
FORGET = "rm -rf /run/chatmail-migrate"
ADDRESSES = "ip -brief address show scope global up | tr -s ' ' '\\n' | grep / | cut --delimiter=/ --fields=1"
REACHED = """
for address; do if timeout 3 bash -c ": > /dev/tcp/$address/$PORT" 2> /dev/null; then echo "$address"; fi; done
"""


class MigrationError(Exception):
    """The move cannot go on; the message says why and what to do."""


class Host:
    """A host of the roster, to run scripts on."""

    def __init__(self, ssh: salt.client.ssh.SSH, name: str):
        if name not in ssh.targets:
            raise MigrationError(f"The roster has no {name}; it has: {', '.join(sorted(ssh.targets))}.")
        target = ssh.defaults | ssh.targets[name]
        if target["passwd"]:
            raise MigrationError(f"{name}: the roster has a password (`passwd:`). Use a key (`priv:`).")
        self.name, self.address, self.user = name, target["host"], target["user"] or "root"
        self.port, self.sudo = int(target["port"] or 22), bool(target["sudo"])
        single = salt.client.ssh.Single(
            ssh.opts, ["test.ping"], name, mods=ssh.mods, fsclient=ssh.fsclient, thin=ssh.thin, **target
        )
        program, *options = shlex.split(single.shell._cmd_str(""))
        self._ssh = [program, "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}", *options]

    def run(self, script: str, *arguments: str, show: bool = False, codes: Sequence[int] = (0,)) -> str:
        """Run a shell script as root and return what it prints, or let it print here with ``show``.

        Raises MigrationError unless it ends with one of ``codes``.
        """
        argv = [*(["sudo", "-n"] if self.sudo else []), "sh", "-c", script, "sh", *arguments]
        output = None if show else subprocess.PIPE
        done = subprocess.run(
            [*self._ssh, shlex.join(argv)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode not in codes:
            raise MigrationError(f"{self.name}: {done.stderr.strip()[-2000:] or f'exit code {done.returncode}'}")
        return done.stdout or ""

    def lines(self, script: str, *arguments: str) -> list[str]:
        return self.run(script, *arguments).splitlines()


@dataclass(frozen=True)
class Notes:
    """What is noted on a host: its machine-id(5), where its relay has moved to, whose mail it takes or has taken."""

    machine: str
    moved: str
    migration: Mapping

    @classmethod
    def of(cls, host: Host) -> "Notes":
        machine, moved, migration = [*host.lines(NOTES), "", ""][:3]
        return cls(machine, moved, json.loads(migration or "{}"))


class Move:
    """The move of a relay from one host to another: its steps, in order."""

    def __init__(self, config_dir: Path, old: str, new: str, console: Console):
        self.config_dir, self.console = config_dir, console
        ssh = salt_ssh(config_dir, [old, new], [])
        self.old, self.new = Host(ssh, old), Host(ssh, new)
        self._closed_at: float | None = None

    @cached_property
    def relay(self) -> dict[str, str]:
        """The settings of the old host's last apply."""
        facts = self.old.run(FACTS)
        if not facts:
            raise MigrationError(f"{self.old.name} is no relay: it has no /etc/chatmail/relay.json.")
        return json.loads(facts)

    def run(self) -> None:
        """Do what is not done yet. Raises MigrationError or ApplyError."""
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
        """Call the move off and let the old host serve again. Raises MigrationError where the new one has begun to."""
        new = Notes.of(self.new)
        if new.migration.get("complete"):
            raise MigrationError(f"{self.new.name} serves already: mail that came to it would be lost from sight.")
        self.old.run(REOPEN, *UNITS)
        self._apply(self.old)

    def check(self, old: Notes, new: Notes) -> None:
        """Raise MigrationError for hosts between which nothing can be moved, before anything is touched."""
        if old.machine == new.machine:
            raise MigrationError(
                f"{self.old.name} and {self.new.name} are one host. Put addresses into the roster: "
                "a name that has moved already leads to the new host."
            )
        if new.moved:
            raise MigrationError(f"The relay of {self.new.name} has itself moved to {new.moved}. Take a bare host.")
        if self.relay["ipv4_relay"]:
            raise MigrationError(f"The relay's name is the address of {self.old.name}, and cannot be had elsewhere.")
        if new.migration.get("complete") and not old.moved:
            raise MigrationError(
                f"{self.new.name} has the mail of a move before, but {self.old.name} serves. If that move was called "
                f"off, remove /etc/chatmail/migration and the mailboxes on {self.new.name}, then run this again."
            )
        if old.moved and not new.migration:
            raise MigrationError(f"The relay of {self.old.name} is on its way to {old.moved}, not to {self.new.name}.")
        if new.migration and new.migration["from"] != old.machine:
            raise MigrationError(f"{self.new.name} takes the mail of another host. Take a bare host.")
        if not new.migration and int(self.new.lines(COUNT, self.relay["mailboxes_dir"])[0]):
            raise MigrationError(
                f"{self.new.name} has mailboxes in {self.relay['mailboxes_dir']}, which the move would delete."
            )

    # --- while the old host serves

    def look(self) -> str:
        """Both hosts have rsync, the new one room; the new one notes whose mail it is going to take."""
        for host in (self.old, self.new):
            host.run(INSTALL_RSYNC)
        taken, free = (
            int(host.run(script, self.relay["mailboxes_dir"]).strip().rstrip("M") or 0)
            for host, script in ((self.old, TAKEN), (self.new, FREE))
        )
        if taken > free:
            raise MigrationError(f"The mailboxes take {taken} MB, and {self.new.name} has {free} MB for them.")
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
        # The bot would look for its relay by name, and find the old one.
        self._apply(self.new, {"dns_check": False, "echobot": False})
        there = json.loads(self.new.run(FACTS))
        if there != self.relay:
            names = ", ".join(name for name, value in self.relay.items() if there[name] != value)
            raise MigrationError(f"{self.old.name} and {self.new.name} differ in {names}. Give both the same pillar.")

    def copy_mailboxes(self) -> str:
        """The bulk of it, which may take hours; the rest is what changes meanwhile."""
        self.new.run(STOP, *UNITS)
        # 24: files that vanished, as messages do when their clients have fetched them.
        self._copy([self.relay["mailboxes_dir"] + "/"], "--chown=vmail:vmail", codes=(0, 24))
        return self._counts(self.new)

    # --- while nobody serves

    def close(self) -> str:
        """The old host accepts nothing more; port 25 says so with a temporary error, and senders try again."""
        self._closed_at = time.monotonic()
        self.old.run(WRITE, "/etc/chatmail/moved", self.new.name)
        self.old.run(DRAIN)
        self.old.run(CLOSE, *UNITS)
        return self._counts(self.old)

    def copy_rest(self) -> str:
        self.new.run(STOP, *UNITS)
        self._copy([self.relay["mailboxes_dir"] + "/"], "--chown=vmail:vmail")
        self.copy_keys()
        # Owners are mapped by name; systemd makes a directory of state the user's who is new.
        self._copy(
            ["/etc/chatmail-nocreate", self.relay["passdb_path"], self.relay["invites_dir"] + "/", "/var/lib/echobot/"]
        )
        filters = [f"--include=/{name}/***" for name in (*QUEUES, *QUEUE_NOTES)]
        self._copy(["/var/spool/postfix/"], *filters, "--exclude=*")
        before, after = self._counts(self.old), self._counts(self.new)
        if before != after:
            raise MigrationError(f"The old host has {before}; the new one {after}. Run this again.")
        self._note(complete=True)
        return f"the new host has {after}"

    def start(self) -> str:
        self.new.run(START, *UNITS)
        missing = [str(port) for port in OPEN_PORTS if not self._addresses(self.old, self.new, port)]
        if missing:
            raise MigrationError(
                f"{self.old.name} cannot reach {self.new.name} at port {', '.join(missing)}. Let {self.old.name} in "
                "(firewall), or see `journalctl` there, then run this again."
            )
        return f"{time.monotonic() - self._closed_at:.0f} s after the old host closed" if self._closed_at else ""

    # --- while the new host serves

    def forward(self) -> str:
        """Who still has the old address reaches the new host by it."""
        addresses = filter(_is_address, self._addresses(self.old, self.new, 993)[::-1])
        families = {":" in address: address for address in addresses}
        self._apply(self.old, {"proxy_target": list(families.values())}, "chatmail.proxy")
        return f"to {' and '.join(families.values())}"

    def finish(self) -> None:
        self._apply(self.new)
        self.new.run(FORGET)

    # --- how

    def _note(self, *, complete: bool) -> None:
        note = {"from": Notes.of(self.old).machine, "complete": complete}
        self.new.run(WRITE, "/etc/chatmail/migration", json.dumps(note))

    def _counts(self, host: Host) -> str:
        mailboxes, mails, queued = host.lines(COUNT, self.relay["mailboxes_dir"], *QUEUES)
        return f"{mailboxes} mailboxes with {mails} messages, and {queued} messages in the queue"

    def _addresses(self, source: Host, target: Host, port: int) -> list[str]:
        """Addresses of ``target`` at which ``source`` reaches a TCP port: its own, and the one in the roster."""
        candidates = [*target.lines(ADDRESSES), target.address]
        return source.lines(f"PORT={port}{REACHED}", *dict.fromkeys(candidates))

    def _copy(self, paths: Sequence[str], *options: str, codes: Sequence[int] = (0,)) -> None:
        """Make files and directories (with a final slash) that the old host has the same on the new one."""
        existing = self.old.lines(EXISTING, *paths)
        with self._key() as (address, ssh):
            for path in existing:
                source = f"{self.old.user}@{f'[{address}]' if ':' in address else address}:{path}"
                shown = ["--info=progress2"] if self.console.is_terminal else []
                rsync = ["-aH", "--delete", "--mkpath", *shown, *options, "-e", ssh, source, path]
                self.new.run(FETCH, *rsync, show=bool(shown), codes=codes)

    @contextlib.contextmanager
    def _key(self) -> Iterator[tuple[str, str]]:
        """Let the new host read from the old one as long as this lasts; give its address, and rsync's ssh command."""
        addresses = self._addresses(self.new, self.old, self.old.port)
        if not addresses:
            raise MigrationError(
                f"{self.new.name} cannot reach ssh on {self.old.name} (port {self.old.port}). Let it in (firewall)."
            )
        public = self.new.run(MAKE_KEY, self.old.run(HOST_KEYS).strip()).strip()
        read_only = f"{'sudo -n --preserve-env=SSH_ORIGINAL_COMMAND ' if self.old.sudo else ''}/usr/bin/rrsync -ro /"
        self.old.run(ADMIT_KEY, self.old.user, public, read_only)
        try:
            yield (
                addresses[0],
                f"ssh -p {self.old.port} -i key -o BatchMode=yes -o IdentitiesOnly=yes -o HostKeyAlias=old "
                "-o StrictHostKeyChecking=yes -o UserKnownHostsFile=known_hosts",
            )
        finally:
            self.old.run(ADMIT_KEY, self.old.user, "", "")
            self.new.run("rm -f /run/chatmail-migrate/key*")

    def _apply(self, host: Host, settings: Mapping | None = None, sls: str = "chatmail") -> None:
        """Apply with some settings other than the pillar's, after what an interrupted run has left at work there."""
        while True:
            (result,) = apply(self.config_dir, [host.name], [sls], self.console, settings)
            if not result.busy:
                break
            time.sleep(BUSY_PAUSE_S)
        if not result.succeeded:
            raise MigrationError("\n".join(str(line) for line in summary(result, self.console.width)))


def _is_address(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(text))
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 only if the relay has moved."""
    parser = argparse.ArgumentParser(prog="python -m tools.migrate", description="Move a relay to a new host.")
    parser.add_argument("old", help="the host that it is on, a name of the roster")
    parser.add_argument("new", help="the host that it goes to, bare Debian 12 or 13")
    parser.add_argument("-c", "--config-dir", type=Path, default=Path("etc"), help="Salt's configuration (etc)")
    parser.add_argument("--reopen", action="store_true", help="call the move off: the old host serves again")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    again = "Run this again: it goes on where it was."
    try:
        move = Move(options.config_dir, options.old, options.new, console)
        with (options.config_dir / "master").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                console.print(
                    "Another move is under way here, or what an interrupted one has begun; waiting for its end."
                )
                fcntl.flock(lock, fcntl.LOCK_EX)
            if options.reopen:
                move.reopen()
                console.print(f"{options.old} serves as before.")
                return 0
            move.run()
    except (ApplyError, MigrationError) as error:
        console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print(f"Interrupted. {again}")
        return 130
    console.print(
        f"✓ The relay is on {options.new}. {options.old} forwards to it; keep it until the DNS records have moved."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
