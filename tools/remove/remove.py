"""The steps of removing a relay, in order."""

import textwrap
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tools.apply_progress import printable
from tools.host import Host, StepFailed
from tools.migrate.units import UNITS
from tools.ssh import client

SCRIPTS = Path(__file__).parent
KINDS = {
    "data": "mail and keys",
    "package": "packages",
    "unit": "units",
    "user": "users",
    "path": "files",
    "own": "files of your own, which are not the formula's",
}
# Where the host's relay.json is gone already.
RESOLVER = "9.9.9.9"
SETTINGS = "/etc/chatmail"
UNIT_FILES = "/etc/systemd/system/"


class Remove:
    """Removing a relay from its host: first what there is, then the steps."""

    def __init__(self, config_dir: Path, relay: str, console: Console, ask: Callable[[str], str]):
        """``ask`` prints a question, and returns what is typed."""
        self._host = Host(client(config_dir, [relay], []), relay, SCRIPTS)
        self._console, self._ask = console, ask

    def run(self, *, dry_run: bool) -> None:
        """Do all, or tell what that would be. Raises StepFailed or ApplyError."""
        found = inventory(self._host.lines("inventory"))
        if found["proxy"]:
            raise StepFailed(f"{self._host.name} is the proxy of a relay; docs/proxy.md says how to end that.")
        if not any(found[kind] for kind in KINDS):
            self._say(f"✓ Nothing of a relay is on {self._host.name}.")
            return
        # A first apply that was stopped has left no domain.
        domain = (found["domain"] or [self._host.name])[0]
        mailboxes = (found["mailboxes"] or ["0"])[0]
        self._say(f"{domain} on {self._host.name} ({self._host.address}) has {mailboxes} mailboxes.")
        self._say("This would be deleted, and nothing else:")
        self._say(told(found, self._console.width))
        if dry_run:
            self._say("Nothing was changed.")
            return
        question = f"\nWho has an address there loses it. Type {domain} to delete all this: "
        if self._ask(printable(question)).strip() != domain:
            raise StepFailed("That is not its name; nothing was changed.")
        self._delete(found, domain)

    def _delete(self, found: dict[str, list[str]], domain: str) -> None:
        if self._host.run("../apply_running"):
            raise StepFailed(
                f"An apply is at work on {self._host.name}; nothing was changed. Try again when it has ended."
            )
        self._say("stopping it")
        self._host.run("stop", (found["resolver"] or [RESOLVER])[0], *dict.fromkeys([*UNITS, *found["unit"]]))
        if found["package"]:
            self._say("purging the packages")
            self._host.run("purge", *found["package"])
        self._say("deleting files and users")
        paths = [path for path in found["path"] if path != SETTINGS]
        self._host.run("delete", *found["data"], *paths)
        self._host.run("forget-users", *found["user"])
        # What a further run would need comes last.
        self._host.run("delete", SETTINGS)
        self._say(
            f"✓ {domain} is removed from {self._host.name}. Left to you: its DNS records, {self._host.name} in "
            "etc/roster, its pillar file, and its backup if it has one."
        )

    def _say(self, what: str) -> None:
        self._console.print(printable(what), markup=False, soft_wrap=True)


def inventory(lines: list[str]) -> dict[str, list[str]]:
    """
    Return what a relay has on its host by kinds, from the lines of ``inventory.sh``.

    A path in a directory that goes as a whole is left out, and so are doubles.
    """
    found = defaultdict(list)
    for line in dict.fromkeys(lines):
        kind, _, name = line.partition(" ")
        found[kind].append(name)
    whole = {*found["data"], *found["path"]}
    for kind in ("data", "path"):
        found[kind] = [path for path in sorted(found[kind]) if not {str(above) for above in Path(path).parents} & whole]
    return found


def told(found: dict[str, list[str]], width: int) -> str:
    """Return what there is, for people: a paragraph for each kind, ``width`` characters wide where words allow."""
    parts = []
    for kind, title in KINDS.items():
        names = sorted(found[kind])
        # Each unit has some, in directories of its own.
        of_units = [name for name in names if name.startswith(UNIT_FILES)]
        names = [name for name in names if name not in of_units] + (
            [f"{UNIT_FILES} (of these units)"] if of_units else []
        )
        if names:
            text = f"{title}: {' '.join(names)}"
            parts.append(
                textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
            )
    return "\n".join(parts)
