"""How far an apply has come on one host, read from the lines that salt writes to its log on the target."""

import json
import re
from dataclasses import dataclass, field

# Messages of salt/state.py at level info. A state's name may hold line breaks: then its closing bracket is missing.
_STARTED = re.compile(r"Executing state (?P<function>[\w.]+) for \[(?P<name>[^\n]*?)\]?$")
_COMPLETED = re.compile(r"Completed state \[")
# Of chatmail_package.
_WAITS = re.compile(r"waits for apt's lock, which .+")


@dataclass(frozen=True)
class Step:
    """One state of an apply, in the order in which salt runs them."""

    identifier: str
    function: str
    name: str
    sls: str


def printable(text: object) -> str:
    """Return text of a host with everything replaced that a terminal would obey; line breaks stay."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in str(text))


def parse_lowstate(text: str) -> list[Step]:
    """
    Return the steps of a low state, as salt-ssh sends it to the target (``lowstate.json``).

    Raises ``ValueError`` where the text is not a low state, such as a list of errors.
    """
    chunks = json.loads(text)
    if not isinstance(chunks, list) or not all(isinstance(chunk, dict) for chunk in chunks):
        raise ValueError("this is not a list of states")
    return [
        Step(
            identifier=printable(chunk.get("__id__", "")),
            function=f"{chunk.get('state')}.{chunk.get('fun')}",
            name=str(chunk.get("name", "")).strip(),
            sls=printable(chunk.get("__sls__", "")),
        )
        for chunk in chunks
    ]


@dataclass
class Progress:
    """
    The progress of one host. Times are seconds of one clock, given by the caller.

    Salt does not log states that it skips because of a requisite, so ``done`` counts in the order of the low state:
    a state that starts means that everything before it is over.
    """

    started: float
    steps: list[Step] = field(default_factory=list)
    done: int = 0
    current: Step | None = None
    current_since: float = 0.0
    waits: str = ""
    """What the current state waits for, where it says so."""

    def feed(self, line: str, now: float) -> tuple[Step, float] | None:
        """
        Take one line of the target's log.

        Returns the state that this line ends, with its duration in seconds, or None.
        """
        if match := _WAITS.search(line):
            self.waits = printable(match[0])
            return None
        self.waits = ""
        if match := _STARTED.search(line):
            position = self._find(match["function"], match["name"].strip())
            if position is not None:
                self.done = max(self.done, position)
                self.current = self.steps[position]
                self.current_since = now
        elif _COMPLETED.search(line) and self.current:
            ended, self.current = self.current, None
            self.done = min(self.done + 1, len(self.steps))
            return ended, now - self.current_since
        return None

    def _find(self, function: str, name: str) -> int | None:
        """Return the position of the state that the log names; the next such one where several have the same name."""
        matching = [
            position
            for position, step in enumerate(self.steps)
            if step.function == function and step.name.partition("\n")[0] == name
        ]
        return next((position for position in matching if position >= self.done), matching[-1] if matching else None)
