"""Writes ``docs/settings.md`` from the schema of the settings: ``make docs``."""

import re
from pathlib import Path

import yaml

from chatmail_setting_types import allowed

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs" / "settings.md"

HEAD = """\
# Settings

What may stand below `chatmail:` in a relay's pillar. `mail_domain` must be there; all else has a default. A setting
that is misspelt or out of bounds ends an apply before it touches the host. This page is made from
`chatmail/defaults.yaml` by `make docs`.

Sizes are a number of MB, or a number with the suffix `M` or `G`. A list may also be written as text with spaces.
"""


def groups(schema: dict, example: str) -> dict[str, list[str]]:
    """Return the names of the settings by the headings of pillar.example; those before the first one are its basis.

    Arguments: ``schema`` maps names to entries; ``example`` is the text of pillar.example.
    """
    found: dict[str, list[str]] = {}
    heading = "Basis"
    for line in example.splitlines():
        if match := re.fullmatch(r"  # --- (.+) ---", line):
            heading = match[1]
        elif (match := re.match(r"  #?(\w+):", line)) and match[1] in schema:
            found.setdefault(heading, []).append(match[1])
    return found


def row(name: str, spec: dict) -> str:
    """Return a setting's row of the table."""
    default = spec["default"]
    dumped = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=1000).splitlines()[0]
    text = "" if default is None else f"`{dumped}`"
    cells = (f"`{name}`", text, allowed(spec), spec["doc"])
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def page(schema: dict, example: str) -> str:
    """Return the text of the page."""
    lines = [HEAD]
    for heading, names in groups(schema, example).items():
        lines += [f"## {heading}\n", "| Setting | Default | Allowed | What it does |", "|---|---|---|---|"]
        lines += [*(row(name, schema[name]) for name in names), ""]
    return "\n".join(lines)


def current() -> str:
    """Return the page that belongs to this checkout."""
    schema = yaml.safe_load((CHECKOUT / "chatmail" / "defaults.yaml").read_text())
    return page(schema, (CHECKOUT / "pillar.example").read_text())


if __name__ == "__main__":
    PAGE.write_text(current())
    print(f"wrote {PAGE.relative_to(CHECKOUT)}")
