"""
The order of checks: one fault is one finding, and what stands on it is not tried.

A check has three parts: what it needs to be in order before it, a function that collects facts on the host, and a pure
function that judges them. A check whose base is down is not tried, so that one fault does not show as ten.
"""

import contextvars
import dataclasses
import re
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from chatmail_errors import CommandExecutionError
from chatmail_services import short
from chatmail_words import one_line

# From the mildest to the worst; "skipped" is not a level of a finding.
LEVELS = ("ok", "note", "warning", "error")


@dataclasses.dataclass(frozen=True)
class Relay:
    """
    What a check knows of the relay: ``settings`` and the daemons of each port (``ports``) as the last apply left them,
    functions of execution modules by name (``call``), the ``clock`` (Unix seconds) that is right, or None, and its name
    as a ``target`` of salt-ssh.
    """

    settings: Mapping
    ports: Mapping
    call: Mapping
    clock: float | None = None
    target: str = "relay"

    def command(self, function):
        """Return the command by which an operator calls ``function``."""
        return f"salt-ssh {self.target} {function}"


@dataclasses.dataclass(frozen=True)
class Finding:
    """
    Something that is not as it should be: how bad, its name for machines (``kind``), what is wrong, and what to do
    next; ``unit`` is what it explains, ``data`` its numbers.
    """

    level: str
    kind: str
    what: str
    do: str
    unit: str = ""
    data: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Check:
    """
    One check. ``needs`` are those that have to be without error before it, ``units`` what has to run; findings of later
    checks that match ``explains`` are consequences of its own errors. A ``slow`` one works beside the others.

    ``collect`` takes the ``Relay`` and returns facts; ``judge`` takes both and returns a line of text and a list of
    ``Finding``; ``figures`` takes the facts and returns the numbers in them (mapping) for machines.
    """

    name: str
    collect: Callable
    judge: Callable
    figures: Callable = lambda facts: {}
    needs: tuple = ()
    units: frozenset = frozenset()
    explains: re.Pattern | None = None
    slow: bool = False


def _judged(check, relay):
    """What the check says, its findings and its figures; that it cannot look is a finding, too."""
    try:
        facts = check.collect(relay)
        return *check.judge(facts, relay), check.figures(facts)
    except (OSError, ValueError, CommandExecutionError, subprocess.SubprocessError) as error:
        why = one_line(str(error) or type(error).__name__)
    except (KeyError, ImportError) as error:
        # A package, or a setting that is newer than the last apply.
        why = f"{error} is not there"
    what, do = f"{check.name} cannot be looked at: {why}", relay.command("state.apply chatmail")
    return "", [Finding("error", "cannot-look", what, do)], {}


def survey(checks, relay):
    """
    Run the checks in order; those whose base is down are not tried.

    Returns lines (``check``, ``level``, ``says``, ``figures``) and findings (``check``, ``level``, ``kind``, ``what``,
    ``do``, and where there are such ``unit`` and ``data``, its numbers), two lists.
    """
    lines, found = [], []
    errors, down, explained = set(), set(), []
    with ThreadPoolExecutor(max(1, sum(check.slow for check in checks))) as pool:
        # Salt's functions depend on context variables.
        slow = {
            check.name: pool.submit(contextvars.copy_context().run, _judged, check, relay)
            for check in checks
            if check.slow
        }
        for check in checks:
            base = [name for name in check.needs if name in errors] + sorted(map(short, check.units & down))
            if base:
                says = f"not tried before {base[0]} is fixed"
                lines.append({"check": check.name, "level": "skipped", "says": says, "figures": {}})
                continue
            says, findings, figures = slow[check.name].result() if check.slow else _judged(check, relay)
            units = {one.unit for one in findings if one.unit and one.level != "note"}
            # Not what an earlier finding has as its consequence.
            findings = [
                one
                for one in findings
                if one.unit not in down and not any(pattern.search(one.what) for pattern in explained)
            ]
            down |= units
            level = worst(one.level for one in findings)
            if level == "error":
                errors.add(check.name)
                explained += [check.explains] if check.explains else []
            lines.append({"check": check.name, "level": level, "says": says, "figures": figures})
            found += [
                {"check": check.name, "level": one.level, "kind": one.kind, "what": one.what, "do": one.do}
                | {name: value for name, value in (("unit", one.unit), ("data", one.data)) if value}
                for one in findings
            ]
    return lines, sorted(found, key=lambda one: -LEVELS.index(one["level"]))


def worst(levels):
    """Return the worst of ``levels``; "ok" where there are none."""
    return max(levels, key=LEVELS.index, default="ok")
