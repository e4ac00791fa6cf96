"""What an apply shows: one moving line a host on a terminal, a bounded number of lines elsewhere; then the outcome."""

import re
import textwrap
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tools.apply_progress import Progress, Step
from tools.apply_result import HostResult, StateResult

SLOW_S = 5.0
"""A state that took at least this long is named while the apply goes on."""
LINE_EVERY_S = 30.0
"""Without a terminal a host's progress is printed at every tenth of its states, and when nothing was for this long."""
BAR_WIDTH = 20
NAMED = 12
"""As many changes are named at most after an apply; all of a longer list would be a first apply's."""
LISTED = 40
"""Of what would change, as many are named; more are counted by component."""
DIFF_LINES = 40
DIFF_COLORS = {"+": "green", "-": "red", "@": "cyan"}
RENDERING = "rendering the states"
"""What the controller does until the first state starts."""
ZONE_LINE = re.compile(r"\S+ +\d+ +IN ")
COPIED = re.compile("`[^`]+`")
_SPACE = "\N{NO-BREAK SPACE}"
WRAPPING = {"break_long_words": False, "break_on_hyphens": False, "replace_whitespace": False}


class Display:
    """Shows the progress of several hosts. Use it as a context manager; call ``refresh`` a few times a second."""

    def __init__(self, console: Console, hosts: Sequence[str]):
        self._console = console
        self._width = max(map(len, hosts))
        self._printed: dict[str, tuple[int, float]] = dict.fromkeys(hosts, (0, 0.0))
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        else:
            for host in self._printed:
                self._line(host, RENDERING)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def slow(self, host: str, step: Step, seconds: float) -> None:
        """Name a state that took long."""
        if seconds >= SLOW_S:
            self._line(host, f"{step.sls}: {step.identifier} took {seconds:.0f} s")

    def waits(self, host: str, what: str) -> None:
        """Name what a host waits for; nothing where it goes on."""
        self._line(host, what or "goes on")

    def refresh(self, progress: dict[str, Progress], now: float) -> None:
        """Show where every host is; ``now`` is on the clock of the progress."""
        if self._live:
            table = Table.grid(padding=(0, 1))
            for host, state in progress.items():
                table.add_row(*self._row(host, state, now))
            self._live.update(table, refresh=True)
            return
        for host, state in progress.items():
            tenth, when = self._printed[host]
            due = now - (when or state.started) >= LINE_EVERY_S
            reached = 10 * state.done // len(state.steps) if state.steps else 0
            if state.steps and (reached > tenth or due):
                self._printed[host] = (reached, now)
                step = state.current or state.steps[max(state.done - 1, 0)]
                self._line(host, f"{counter(state)} {step.sls}: {step.identifier}", now - state.started)

    def _line(self, host: str, text: str, elapsed: float | None = None) -> None:
        clock = f"{elapsed:4.0f} s  " if elapsed is not None else ""
        self._console.print(f"  {host:{self._width}}  {clock}{text}", markup=False, highlight=False, soft_wrap=True)

    def _row(self, host: str, state: Progress, now: float) -> list[Text]:
        share = state.done / len(state.steps) if state.steps else 0.0
        full = round(share * BAR_WIDTH)
        bar = Text("━" * full, style="green") + Text("━" * (BAR_WIDTH - full), style="bright_black")
        if state.current:
            doing = Text(f"{state.current.sls.removeprefix('chatmail.')}: {state.current.identifier}", "cyan")
            if now - state.current_since >= SLOW_S:
                doing.append(f" {now - state.current_since:.0f} s", "yellow")
        else:
            doing = Text("" if state.steps else RENDERING, "bright_black")
        doing.truncate(max(10, self._console.width - self._width - BAR_WIDTH - 24), overflow="ellipsis")
        return [
            Text(f"  {host:{self._width}}"),
            bar,
            Text(counter(state)),
            Text(f"{now - state.started:4.0f} s"),
            doing,
        ]


def counter(state: Progress) -> str:
    """Return how many of how many states are done, as ``43/128``."""
    return f"{state.done:>3}/{len(state.steps)}" if state.steps else "       "


def summary(result: HostResult, width: int) -> list[Text]:
    """Return the lines that tell one host's outcome; ``width`` columns are there."""
    lines = [_headline(result, width)]
    for error in result.errors:
        lines += [Text(f"    {line}", "red") for line in _wrap(error, width - 4)]
    for state in result.failed:
        if state.was_run:
            lines.append(Text(f"    {state.sls}: {state.identifier} ({state.function})", "bold red"))
            lines += [Text(f"      {line}") for line in _wrap(state.comment, width - 6)]
    if skipped := sum(not state.was_run for state in result.failed):
        lines.append(Text(f"    {skipped} more were not run, because they require what failed.", "bright_black"))
    lines += _changes(result, width)
    lines += [Text(f"    {line}") for line in _wrap(result.ready, width - 4)]
    for warning in result.warnings:
        first, *more = _wrap(warning, width - 6)
        lines += [Text("    ! ", "yellow") + Text(first), *(Text(f"      {line}") for line in more)]
    return lines


def table(results: Sequence[HostResult], untouched: Sequence[str]) -> Table:
    """Return a line for each of several hosts; ``untouched`` are those whose turn did not come."""
    shown = Table(box=None, show_header=False, padding=(0, 2))
    for result in results:
        failed = f"{len(result.failed)} failed" if result.states else "nothing was applied"
        outcome = Text(f"{len(result.changed)} changed") if result.succeeded else Text(failed, "red")
        mark = Text("✓", "green") if result.succeeded else Text("✗", "red")
        shown.add_row(mark, Text(result.host, "bold"), outcome, f"{result.seconds:.1f} s")
    for name in untouched:
        shown.add_row("", Text(name, "bold"), Text("not touched, as a host before it failed", "bright_black"), "")
    return shown


def _changes(result: HostResult, width: int) -> list[Text]:
    """What has changed, by name where it is little; of what would change, the words and lines too."""
    told = result.pending or result.changed
    if not told or (len(told) > NAMED and not result.pending):
        return []
    if not result.pending or len(told) > NAMED:
        what = "would change" if result.pending else "changed"
        names = dict.fromkeys(state.identifier for state in told)
        if len(told) > LISTED:
            counts = Counter(state.sls.removeprefix("chatmail.") for state in told)
            names = [f"{count} of {component}" for component, count in counts.items()]
        names = f"{what}: {', '.join(names)}"
        return [Text(f"    {line}", "bright_black") for line in _wrap(names, width - 4)]
    lines = []
    for state in told:
        lines.append(Text(f"    {state.sls}: {state.identifier} ({state.function})", "yellow"))
        lines += [Text(f"      {line}") for line in _wrap(state.comment, width - 6)]
        diff = state.diff.splitlines()
        lines += [Text(f"      {line}", DIFF_COLORS.get(line[:1], "")) for line in diff[:DIFF_LINES]]
        if len(diff) > DIFF_LINES:
            lines.append(Text(f"      {len(diff) - DIFF_LINES} more lines", "bright_black"))
    return lines


def _headline(result: HostResult, width: int) -> Text:
    line = Text("  ✓ " if result.succeeded else "  ✗ ", "green" if result.succeeded else "red")
    line.append(result.host, "bold")
    if not result.states:
        return line.append(f"  nothing was applied, {result.seconds:.1f} s")
    succeeded = len(result.states) - len(result.failed)
    changed = f"{len(result.pending)} would change" if result.pending else f"{len(result.changed)} changed"
    line.append(f"  {succeeded} succeeded, {changed}, ")
    line.append(f"{len(result.failed)} failed", "red" if result.failed else "")
    line.append(f", {result.seconds:.1f} s")
    longest = _longest(result.states, width - len(line) - len("  (longest: )"))
    return line.append(f"  (longest: {longest})", "bright_black") if longest else line


def _longest(states: Sequence[StateResult], width: int) -> str:
    """Name the states that took longest, at most three and no more than have room."""
    named = ""
    for state in sorted(states, key=lambda state: -state.seconds)[:3]:
        more = f"{named}{', ' if named else ''}{state.identifier} {state.seconds:.0f} s"
        if state.seconds < 1 or len(more) > width:
            break
        named = more
    return named


def _wrap(text: str, width: int) -> list[str]:
    """
    Wrap each line of a text, keeping its own line breaks.

    What is copied stays whole: lines of a zone file, and what stands in backquotes.
    """
    wrapped = []
    for line in text.splitlines():
        if ZONE_LINE.match(line):
            wrapped.append(line)
        else:
            whole = COPIED.sub(lambda copied: copied[0].replace(" ", _SPACE), line)
            parts = textwrap.wrap(whole, max(width, 20), **WRAPPING) or [""]
            wrapped += [part.replace(_SPACE, " ") for part in parts]
    return wrapped
