"""
Apply with a way back: ``python -m tools.upgrade RELAY``, and ``--back`` for that way.

What the apply is going to change is found out and kept on the host (``chatmail_upgrade``), which is asked for its
status before and after. Where an apply fails, or the relay is worse than before, all of it is put back. An upgrade that
was killed goes on in the next one, and is compared with what was before the first.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from tools.apply_display import summary
from tools.apply_progress import printable
from tools.apply_result import HostResult, StateResult, parse_return
from tools.errors import ApplyError
from tools.host import BUSY_PAUSE_S, Host, StepFailed, alone, applied
from tools.ssh import answers, client

SETTLE_S = 10.0
"""Services that have just been restarted are looked at once more after this time."""
KEYS = ("chatmail_cert.", "chatmail_dkim.", "chatmail_turn.")
"""What these states make is there once, and stays."""
OF_OTHERS = ("file.directory", "file.tidied")
"""Of what is in the directories of these states an apply makes nothing."""
RUNNING = ("services", "sockets")
"""Checks of the status of which a warning counts as well: something does not run."""


def paths(states: Iterable[StateResult]) -> list[str]:
    """Return the files and directories that an apply with these states may change."""
    return sorted(
        {
            state.name
            for state in states
            if state.name.startswith("/") and state.function not in OF_OTHERS and not state.function.startswith(KEYS)
        }
    )


def units(states: Iterable[StateResult]) -> list[str]:
    """Return the units of systemd that an apply with these states may start, stop, enable or mask."""
    return sorted({state.name for state in states if state.function.startswith("chatmail_service.")})


def worse(before: Sequence[Mapping], after: Sequence[Mapping]) -> list[Mapping]:
    """
    Return the findings of a status ``after`` that make a relay worse than it was ``before``.

    These are new errors, and of what should run new warnings. A finding is new where there were fewer of its check,
    kind and unit.
    """

    def same(finding: Mapping) -> tuple:
        return finding["check"], finding["kind"], finding.get("unit", "")

    known = Counter(map(same, before))
    found = []
    for finding in after:
        known[same(finding)] -= 1
        counts = finding["level"] == "error" or (finding["level"] == "warning" and finding["check"] in RUNNING)
        if counts and known[same(finding)] < 0:
            found.append(finding)
    return found


class Upgrade:
    """An upgrade of one relay, or its way back."""

    def __init__(self, config_dir: Path, relay: str, console: Console, sls: str = "chatmail"):
        """Find the relay in the roster; ``sls`` is what is applied. Raises ApplyError."""
        self._config_dir, self._console, self._sls = config_dir, console, sls
        self._host = Host(client(config_dir, [relay], []), relay, Path(__file__).parent)

    def run(self) -> bool:
        """Upgrade; return whether the relay is upgraded. Raises ApplyError, or StepFailed where nothing was changed."""
        kept = self._call("chatmail_upgrade.listed")
        unfinished = bool(kept) and not kept[0]["finished"]
        if unfinished:
            since = _time(kept[0]["since"])
            self._say(
                f"An upgrade was interrupted here, {since}. This one completes it, or puts back what was before it."
            )
        self._say("What would change:")
        foreseen = applied(self._config_dir, self._host, self._console, sls=self._sls, test=True)
        self._tell(foreseen)
        if not foreseen.succeeded and unfinished:
            return self._undone("It cannot be completed.")
        if not foreseen.succeeded:
            raise StepFailed("Nothing was changed. Fix what is named above, then upgrade again.")
        if not foreseen.pending and not unfinished:
            self._say("✓ Nothing is to be upgraded.")
            return True
        self._say("asking for the status, and keeping what is there")
        findings = [_short(one) for one in self._findings()]
        may_change = (paths(foreseen.states), units(foreseen.states), findings)
        before = self._call("chatmail_upgrade.begin", *map(json.dumps, may_change))
        try:
            problem = self._change(before["findings"])
        except (ApplyError, StepFailed) as error:
            problem = str(error)
        if problem:
            return self._undone(problem)
        self._call("chatmail_upgrade.finish")
        self._say(f"✓ The relay is upgraded, and as well as before. The way back: ./relay {self._host.name} rollback")
        return True

    def _change(self, before: Sequence[Mapping]) -> str:
        """Apply, and return why the relay is worse than with the findings ``before``; empty where it is not."""
        self._say("applying")
        result = applied(self._config_dir, self._host, self._console, sls=self._sls)
        self._tell(result)
        if not result.succeeded:
            return "The apply has failed."
        found = self._worse(before)
        return f"The relay is worse than before:\n{_told(found)}" if found else ""

    def back(self) -> bool:
        """Put back what was before the last upgrade; return whether the relay is as well as then.

        Raises ApplyError, or StepFailed where there is no way back.
        """
        while self._host.run("apply_running"):
            time.sleep(BUSY_PAUSE_S)
        self._say("putting back what was there before the upgrade")
        begun = time.monotonic()
        done = self._call("chatmail_upgrade.undo")
        seconds = time.monotonic() - begun
        for path in done["paths"]:
            self._say(f"    {path}")
        if done["packages"]:
            self._say(f"    packages: {', '.join(done['packages'])}")
        if done["left"]:
            self._say(f"    stay as they are, apt has no other version: {', '.join(done['left'])}")
        found = self._worse(done["findings"])
        self._say(
            f"{'✗' if found else '✓'} What was there at {_time(done['since'])} (version {done['version']}) is back, "
            f"after {seconds:.0f} s. The next apply or upgrade brings what checkout and pillar say: change them first."
        )
        if found:
            self._say(f"But the relay is worse than it was then:\n{_told(found)}")
        return not found

    def _undone(self, why: str) -> bool:
        """Say why this goes back, and do it; return that nothing is upgraded."""
        self._say(f"✗ {why}")
        self.back()
        return False

    def _findings(self) -> list[Mapping]:
        """What the status finds. Raises StepFailed where the host is no relay."""
        findings = self._call("chatmail_relay.status", fails=True)["findings"]
        for one in findings:
            if one["kind"] == "not-a-relay":
                raise StepFailed(printable(f"{self._host.name}: {one['what']}. First: ./relay {self._host.name} apply"))
        return findings

    def _worse(self, before: Sequence[Mapping]) -> list[Mapping]:
        """Ask for the status, once more where it is worse than ``before``, and return in what."""
        self._say("asking for the status")
        if found := worse(before, self._findings()):
            time.sleep(SETTLE_S)
            found = worse(before, self._findings())
        return found

    def _say(self, what: str) -> None:
        self._console.print(printable(what), markup=False, highlight=False, soft_wrap=True)

    def _tell(self, result: HostResult) -> None:
        for line in summary(result, self._console.width):
            self._console.print(line, soft_wrap=True)

    def _call(self, function: str, *arguments: str, fails: bool = False) -> object:
        """Return what a function of Salt returns. Raises ApplyError, or StepFailed unless it ``fails`` with that."""
        name = self._host.name
        said, code = answers(self._config_dir, name, function, *arguments)
        result = said.get(name, "There is no answer.")
        if isinstance(result, str) or (code and not (fails and "findings" in result)):
            raise StepFailed("\n".join(parse_return(name, result, code).errors))
        return result


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _short(finding: Mapping) -> dict:
    return {name: finding[name] for name in ("check", "level", "kind", "unit") if name in finding}


def _told(findings: Iterable[Mapping]) -> str:
    return "\n".join(printable(f"    {one['check']}: {one['what']}") for one in findings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 only if the relay is upgraded, or with ``--back`` as it was."""
    parser = argparse.ArgumentParser(prog="python -m tools.upgrade", description="Apply with a way back.")
    parser.add_argument("relay", help="the host, a name of the roster")
    parser.add_argument("--back", action="store_true", help="put back what was before the last upgrade")
    parser.add_argument("--sls", action="append", help="what to apply (chatmail)")
    parser.add_argument("-c", "--config-dir", type=Path, default=Path("etc"), help="Salt's configuration (etc)")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        with alone(options.config_dir, console):
            upgrade = Upgrade(options.config_dir, options.relay, console, ",".join(options.sls or ["chatmail"]))
            return 0 if (upgrade.back() if options.back else upgrade.run()) else 1
    except (ApplyError, StepFailed) as error:
        console.print(f"✗ {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print(
            "Interrupted here. What an upgrade replaces is kept: upgrade again, or go back with ./relay rollback.",
            soft_wrap=True,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
