"""Writes ``docs/functions.md`` from the docstrings of the execution modules: ``make docs``."""

import ast
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs" / "functions.md"

HEAD = """\
# Functions

What can be called on a relay, `salt-ssh relay MODULE.FUNCTION`. The other pages name those that a task needs; states
and the controller use the rest. `salt-ssh relay sys.doc chatmail_queue.retry` shows arguments and an example. This page
is made from `_modules/` by `make docs`.
"""


def first_sentence(docstring: str) -> str:
    """Return the first sentence of a docstring, on one line."""
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.:;])\s", paragraph)[0].rstrip(".:;").replace("``", "`").replace("|", "\\|") + "."


def functions(source: str) -> dict[str, str]:
    """Return the public functions of a module's source, with the first sentence of what they say of themselves."""
    tree = ast.parse(source)
    found = [one for one in tree.body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")]
    # list_ is called list: `__func_alias__`.
    return {one.name.rstrip("_"): first_sentence(ast.get_docstring(one) or "") for one in found}


def current() -> str:
    """Return the page that belongs to this checkout."""
    lines = [HEAD]
    for path in sorted((CHECKOUT / "_modules").glob("*.py")):
        lines += [f"## {path.stem}\n", "| Function | What it does |", "|---|---|"]
        lines += [*(f"| `{name}` | {text} |" for name, text in functions(path.read_text()).items()), ""]
    return "\n".join(lines)


def named(page: str) -> set[tuple[str, str]]:
    """Return the functions on a page, each with its module."""
    found, module = set(), ""
    for line in page.splitlines():
        module = line[3:] if line.startswith("## ") else module
        if match := re.match(r"\| `(\w+)` \|", line):
            found.add((module, match[1]))
    return found


if __name__ == "__main__":
    PAGE.write_text(current())
    print(f"wrote {PAGE.relative_to(CHECKOUT)}")
