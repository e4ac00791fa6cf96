"""The steps of restoring a relay, in order."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tools.host import Host, StepFailed, apply_to
from tools.ssh import client

SCRIPTS = Path(__file__).parent
WITH_RESTIC = dict.fromkeys(("snapshots", "room", "fetch"), "environment")
ENVIRONMENT = "/etc/chatmail/backup.env"
AGAIN = "Run this again when that is fixed: it begins from the start."


@dataclass(frozen=True)
class Source:
    """Where the backup is, and what it takes to read it."""

    repository: str
    password: bytes
    environment: bytes

    @classmethod
    def read(cls, repository: str, password_file: Path, environment_file: Path | None) -> "Source":
        """Read the files of this computer. Raises StepFailed where that does not work."""
        contents = []
        for path in (password_file, environment_file):
            try:
                contents.append(path.read_bytes() if path else b"")
            except OSError as error:
                raise StepFailed(f"{path} cannot be read: {error.strerror}.") from error
        if not contents[0].strip():
            raise StepFailed(f"{password_file} is empty; it should hold the repository's password.")
        return cls(repository, *contents)


class Restore:
    """Restoring a relay to a host: its steps, in order."""

    def __init__(self, config_dir: Path, relay: str, source: Source, console: Console):
        self._config_dir, self._source, self._console = config_dir, source, console
        self._host = Host(client(config_dir, [relay], []), relay, SCRIPTS, WITH_RESTIC)

    def run(self) -> None:
        """Do all. Raises StepFailed or ApplyError."""
        begun = time.monotonic()
        self._prepare()
        settings = json.loads(self._host.run("settings"))
        self._say("looking at the backup")
        password_file = settings["backup_password_file"]
        self._host.run("install")
        self._host.run("place-secret", password_file, given=self._source.password)
        if self._source.environment:
            self._host.run("place-secret", ENVIRONMENT, given=self._source.environment)
        where = (self._source.repository, password_file, settings["mail_domain"])
        self._say(self._newest(where))
        self._fetch(where)
        self._say("putting it into its place")
        told = self._host.run("place", settings["mailboxes_dir"]).strip()
        self._say(f"{told}; applying the rest")
        apply_to(self._config_dir, self._host, self._console)
        if self._host.lines("queue"):
            self._say("what was in the queue is there again, and is sent; some of it may come a second time")
        self._say(
            f"✓ {settings['mail_domain']} is on {self._host.name} again, after {time.monotonic() - begun:.0f} s. "
            "If the host has other addresses than before, change the A and AAAA records (chatmail_dns.check)."
        )

    def _say(self, what: str) -> None:
        self._console.print(what, markup=False, soft_wrap=True)

    def _prepare(self) -> None:
        """The host is fit, has its settings, vmail and the directory of the mailboxes, and no mailbox of its own."""
        restoring, mailboxes = self._host.lines("state")
        if restoring == "yes":
            self._say("what an earlier run has not completed begins again")
            return
        if int(mailboxes):
            raise StepFailed(
                f"{self._host.name} has {mailboxes} mailboxes; a backup is restored to a bare host. If an earlier run "
                f"was interrupted in its last step, that is all that is missing: ./relay {self._host.name} apply"
            )
        apply_to(self._config_dir, self._host, self._console, sls="chatmail.system")

    def _newest(self, where: tuple[str, str, str]) -> str:
        """What the newest backup of the relay is. Raises StepFailed where there is none that can be read."""
        snapshots = json.loads(self._host.run("snapshots", *where[:2]))
        mine = [one for one in snapshots if one["hostname"] == where[2] and "chatmail" in one["tags"]]
        if not mine:
            others = ", ".join(sorted({one["hostname"] for one in snapshots})) or "nothing at all"
            raise StepFailed(
                f"The repository has no backup of {where[2]}, which is the mail_domain of {self._host.name}; it has: "
                f"{others}."
            )
        return f"the newest backup of {where[2]} is of {max(one['time'] for one in mine)[:19]}"

    def _fetch(self, where: tuple[str, str, str]) -> None:
        """All of it lies on the host, as it was saved, beside its place."""
        needed, free = (int(number) for number in self._host.run("room", *where).split())
        if needed > free:
            raise StepFailed(f"The backup takes {needed >> 20} MB, and {self._host.name} has {free >> 20} MB for it.")
        self._say(f"reading it, {needed >> 20} MB")
        try:
            self._host.run("fetch", *where)
        except StepFailed as error:
            raise StepFailed(f"{error}\n{AGAIN}") from error
