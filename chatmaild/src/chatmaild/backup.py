"""Saves what a relay must not lose into a restic repository, and tries whether it can be read again.

restic(1) encrypts, finds what it has already, and knows the places: a directory, a host by sftp, S3. What is saved, for
how long, and how it ended is said here. A file is saved as its last writer has left it: all of ours are replaced as a
whole, so that no service has to stop.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from . import files, invites
from .config import Config, read_config_or_exit
from .mailboxes import scanner
from .mailboxes.mailbox import DAY

RESULTS = Path("/var/lib/chatmail-backup")  # save.json and check.json, an `Outcome` each
CACHE = Path("/var/cache/chatmail-backup")
# Beside the mailboxes and the certificate: keys, the secret for calls, invites, the settings as they were applied.
IDENTITY = (
    Path("/etc/dkimkeys"),
    Path("/var/lib/acme"),
    Path("/etc/chatmail/turn-secret"),
    Path("/etc/chatmail/relay.json"),
    Path("/etc/chatmail-nocreate"),
    invites.DIRECTORY,
    Path("/var/lib/echobot"),
    Path("/var/lib/operator-bot"),
)
# Messages, and what Postfix knows of them.
QUEUE = tuple(
    Path("/var/spool/postfix", name)
    for name in ("incoming", "active", "deferred", "hold", "maildrop", "bounce", "defer", "trace", "flush")
)
IDENTITY_TAG, MAIL_TAG = "chatmail", "mail"
IDENTITY_KEPT_S = 7 * DAY
# No message may be in a backup for longer than a relay keeps it: what will have gone by then is not saved.
MAIL_KEPT_S = DAY
MAIL_MARGIN_S = 2 * DAY
SOME_UNREAD = 3  # restic's exit status where it could not read all that was named


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """What backup reads."""

    backup_repository: str  # as restic's option --repo takes it
    backup_password_file: Path
    backup_mail: bool
    delete_mails_after: int  # days
    tls_cert_path: Path
    tls_key_path: Path


@dataclass(frozen=True)
class Outcome:
    """How something ended for the last time: when that was, when it was good, in Unix seconds, and what went wrong."""

    tried: int
    good: int | None
    problem: str


class Failed(Exception):
    """restic has not done what it should; the text is its own."""


class Restic:
    """restic with a repository, which need not exist yet."""

    def __init__(self, config: Settings) -> None:
        self._argv = ["restic", "--quiet", "--cache-dir", str(CACHE), "--repo", config.backup_repository]
        self._argv += ["--password-file", str(config.backup_password_file)]

    def run(
        self, *arguments: str, given: IO[bytes] | int = subprocess.DEVNULL, codes: tuple[int, ...] = (0,)
    ) -> subprocess.CompletedProcess:
        """Run a command of restic's with `given` as its standard input.

        :raises Failed: its exit status is not one of `codes`, or there is no restic.
        """
        try:
            done = subprocess.run([*self._argv, *arguments], stdin=given, capture_output=True, check=False)
        except FileNotFoundError as error:
            raise Failed("restic is not installed; an apply installs it") from error
        if done.returncode not in codes:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            fatal = [line for line in said if line.startswith("Fatal:")]
            raise Failed(" ".join((fatal or said or [f"exit status {done.returncode}"])[-1].split()))
        return done

    def open(self) -> None:
        """Make the repository if there is none; end what a run that was killed has locked.

        :raises Failed: it cannot be read, or not be made.
        """
        try:
            self.run("cat", "config")
        except Failed as unreadable:
            try:
                self.run("init")
            except Failed as error:
                # Where there is one already, what is in the way was said before.
                raise unreadable if "already" in str(error) else error from None
        self.run("unlock")


def identity(config: Settings) -> Iterator[Path]:
    """All that makes the relay what it is: keys, addresses with their hashes and flags, devices, invites, settings."""
    pair = (config.tls_cert_path, config.tls_key_path)
    yield from dict.fromkeys((*IDENTITY, *pair, *(path.resolve() for path in pair)))
    for box in scanner.mailboxes(config):
        yield from (box.password_path, box.enforce_e2ee_path, box.disabled_path, box.metadata_path)


def mail(config: Settings, now: float) -> Iterator[Path]:
    """Messages that are not too old by the time their backup is forgotten, and the queue.

    :param now: Unix seconds.
    """
    limit = now - config.delete_mails_after * DAY + MAIL_MARGIN_S
    for box in scanner.mailboxes(config):
        for message in scanner.scan(box.path).messages:
            try:
                if message.stat(follow_symlinks=False).st_mtime > limit:
                    yield Path(message.path)
            except FileNotFoundError:
                continue
    yield from QUEUE


def save(config: Settings, now: float) -> None:
    """Save all, and forget what is older than it may be.

    :param now: Unix seconds.
    :raises Failed: not all is saved.
    """
    restic = Restic(config)
    restic.open()
    which = ["--host", config.mail_domain, "--tag", IDENTITY_TAG]
    if not _save(restic, which, lambda: identity(config)):
        raise Failed("files could not be read; the units' journal names them")
    _forget(restic, which, now - IDENTITY_KEPT_S, newest_stays=True)
    which[-1] = MAIL_TAG
    if config.backup_mail:
        _save(restic, which, lambda: mail(config, now))
    _forget(restic, which, now - MAIL_KEPT_S if config.backup_mail else now, newest_stays=False)


def _save(restic: Restic, which: list[str], contents: Callable[[], Iterator[Path]]) -> bool:
    """Save those of the files that there are; returns whether all could be read.

    Messages and addresses go while restic reads the list, so it is made a second time where some could not be read.
    """
    for _ in range(2):
        # Not in memory: there may be millions of messages.
        with tempfile.TemporaryFile() as names:
            names.writelines(bytes(path) + b"\0" for path in contents() if os.path.lexists(path))
            names.seek(0)
            done = restic.run("backup", *which, "--files-from-raw", "-", given=names, codes=(0, SOME_UNREAD))
        if done.returncode == 0:
            return True
        print(done.stderr.decode(errors="replace"), file=sys.stderr)
    return False


def _forget(restic: Restic, which: list[str], limit: float, *, newest_stays: bool) -> None:
    """Remove what was saved before `limit`, in Unix seconds; restic's own rules never remove the newest."""
    snapshots = json.loads(restic.run("snapshots", *which, "--json").stdout)
    taken = {one["id"]: datetime.fromisoformat(one["time"]).timestamp() for one in snapshots}
    old = [identifier for identifier, time in taken.items() if time < limit]
    if newest_stays and len(old) == len(taken) > 0:
        old.remove(max(taken, key=taken.get))
    if old:
        restic.run("forget", "--prune", *old)


def check(config: Settings) -> None:
    """Read all that is in the repository, and see that it is what was saved.

    :raises Failed: something of it is damaged, missing or cannot be reached.
    """
    restic = Restic(config)
    restic.run("unlock")
    restic.run("check", "--read-data")


def record(name: str, problem: str, now: float, directory: Path = RESULTS) -> Outcome:
    """Keep how `save` or `check` has ended, for ``chatmail_relay.status``.

    :param now: Unix seconds.
    :param problem: ``""`` where all went well.
    """
    path = directory / f"{name}.json"
    try:
        before = json.loads(path.read_bytes())["good"]
    except (OSError, ValueError, KeyError, TypeError):
        before = None
    outcome = Outcome(int(now), int(now) if not problem else before, problem)
    files.replace(path, json.dumps(asdict(outcome)).encode())
    return outcome


def main() -> None:
    """The command line of the units chatmail-backup and chatmail-backup-check."""
    parser = argparse.ArgumentParser(description="Save what the relay must not lose, or read all that was saved.")
    parser.add_argument("what", choices=["save", "check"])
    parser.add_argument("config", type=Path, help="settings file, such as /etc/chatmail/backup.toml")
    arguments = parser.parse_args()
    config = read_config_or_exit(arguments.config, Settings)
    problem = ""
    try:
        if arguments.what == "save":
            save(config, time.time())
        else:
            check(config)
    except (Failed, OSError) as error:
        problem = str(error)
    record(arguments.what, problem, time.time())
    if problem:
        sys.exit(f"backup: {problem}")


if __name__ == "__main__":
    main()
