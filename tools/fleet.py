"""How all relays are: a line each, the worst first. ``./relay '*' status`` prints it."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chatmail_news import AWAY, why_away
from tools.apply_progress import printable
from tools.errors import ApplyError
from tools.ssh import answers
from tools.watch import STATUS_TIMEOUT_S, statuses

LEVELS = ("ok", "note", "warning", "error", AWAY)
"""From well to worst; ``away`` is a relay that could not be asked."""
COLORS = {"ok": "green", "note": "", "warning": "yellow", "error": "red", AWAY: "red"}
FORMULA = Path(__file__).parents[1] / "FORMULA"


@dataclass(frozen=True)
class Relay:
    """
    How one relay is.

    ``level`` is one of LEVELS, ``findings`` what its status found, the worst first, or why it could not be asked;
    ``version`` and ``applied`` are those of its last complete apply (grain ``chatmail``), empty where not known.
    """

    name: str
    level: str
    findings: tuple[str, ...]
    version: str = ""
    applied: str = ""


def relay_of(name: str, said: object, grain: object) -> Relay:
    """Return how a relay is, by what salt-ssh says of its status and of its grain ``chatmail``."""
    facts = grain if isinstance(grain, Mapping) else {}
    version, applied = (printable(str(facts.get(key) or "")) for key in ("version", "applied"))
    if text := why_away(said):
        return Relay(name, AWAY, (printable(text),), version, applied)
    try:
        findings = tuple(printable(str(finding["what"])) for finding in said["findings"])
        level = LEVELS[LEVELS.index(said["level"])]
    except (LookupError, TypeError, ValueError):
        return Relay(name, AWAY, ("what it says is no status",), version, applied)
    return Relay(name, level, findings, version, applied)


def look(config_dir: Path, relays: str) -> list[Relay]:
    """
    Return how each relay of the roster that matches a glob is, the worst first.

    Raises ApplyError where salt-ssh has no answer at all.
    """
    said = statuses(config_dir, relays)
    try:
        grains, _ = answers(config_dir, relays, "grains.get", "chatmail", seconds=STATUS_TIMEOUT_S)
    except ApplyError:
        # One of them hangs; how they are is worth more than which version they have.
        grains = {}
    found = [relay_of(name, answer, grains.get(name)) for name, answer in said.items()]
    return sorted(found, key=lambda relay: (-LEVELS.index(relay.level), -len(relay.findings), relay.name))


def table(relays: Sequence[Relay], version: str) -> Table:
    """Return the table; ``version`` is this checkout's, and who has another is behind."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("Relay", "Level", "Version", "Applied", "What is wrong"):
        shown.add_column(column, no_wrap=column != "What is wrong")
    for relay in relays:
        what = relay.findings[0] if relay.findings else ""
        if len(relay.findings) > 1:
            what += f" (and {len(relay.findings) - 1} more)"
        behind = "yellow" if relay.version != version else ""
        cells = [
            Text(relay.name, "bold"),
            Text(relay.level, COLORS[relay.level]),
            Text(relay.version, behind),
            Text(relay.applied[:10]),
            Text(what),
        ]
        shown.add_row(*cells)
    return shown


def main(words: Sequence[str] | None = None) -> int:
    """Print how relays are. Returns 0 if all are well, 1 with warnings or where there is no answer, 2 with errors."""
    parser = argparse.ArgumentParser(prog="./relay '*' status", description="Tell how relays are, a line each.")
    parser.add_argument("relays", help="a name of the roster, or a glob")
    parser.add_argument("-c", "--config-dir", type=Path, default=Path("etc"), help="Salt's configuration (etc)")
    options = parser.parse_args(words)
    console = Console(highlight=False)
    try:
        with console.status("asking the relays"):
            found = look(options.config_dir, options.relays)
    except ApplyError as error:
        print(error, file=sys.stderr)
        return 1
    version = yaml.safe_load(FORMULA.read_text())["version"]
    console.print(table(found, version))
    worst = LEVELS.index(found[0].level)
    if behind := sum(relay.version != version for relay in found if relay.level != AWAY):
        console.print(f"{behind} of {len(found)} have not the version of this checkout, {version}: ./relay NAME apply")
    if worst > LEVELS.index("note"):
        console.print(f"What to do: ./relay {found[0].name} status")
    return min(max(0, worst - 1), 2)


if __name__ == "__main__":
    sys.exit(main())
