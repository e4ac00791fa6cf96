"""What an apply did on one host, read from what salt-ssh returns."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.apply_progress import printable

# Salt's own words for a state that it did not run (salt/state.py).
_NOT_RUN = "One or more requisite failed"
# The state that says, last of all, where the relay's page is.
_READY = "chatmail_relay.ready"


@dataclass(frozen=True)
class StateResult:
    """
    One state's outcome; ``name`` is what it is about, often a path, and ``seconds`` its own run time on the target.

    ``pending`` is true for what ``test=True`` would change; ``warnings`` are what the operator should know all the
    same, and ``diff`` what has changed in a file, empty where the state does not say.
    """

    identifier: str
    function: str
    sls: str
    succeeded: bool
    changed: bool
    comment: str
    seconds: float
    pending: bool = False
    warnings: tuple[str, ...] = ()
    diff: str = ""
    name: str = ""

    @property
    def was_run(self) -> bool:
        """Whether salt ran it; it does not where a state that it requires has failed."""
        return self.succeeded or not self.comment.startswith(_NOT_RUN)


@dataclass(frozen=True)
class HostResult:
    """
    The outcome of an apply on one host.

    Either ``states`` holds what ran, or ``errors`` says why nothing did. ``seconds`` is wall time on the controller;
    ``busy`` is true where another apply runs on the host.
    """

    host: str
    states: tuple[StateResult, ...]
    errors: tuple[str, ...]
    seconds: float
    busy: bool = False

    @property
    def changed(self) -> list[StateResult]:
        return [state for state in self.states if state.changed and not state.pending]

    @property
    def pending(self) -> list[StateResult]:
        return [state for state in self.states if state.pending]

    @property
    def warnings(self) -> list[str]:
        """What the states say to the operator, each sentence once."""
        return list(dict.fromkeys(text for state in self.states for text in state.warnings))

    @property
    def ready(self) -> str:
        """What the relay offers and to whom, once it is there; empty where this apply was not for all of it."""
        told = [state.comment for state in self.states if state.function == _READY]
        return told[-1] if told and self.succeeded and not self.pending else ""

    @property
    def failed(self) -> list[StateResult]:
        return [state for state in self.states if not state.succeeded]

    @property
    def succeeded(self) -> bool:
        return bool(self.states) and not self.errors and not self.failed


def parse_return(host: str, returned: object, retcode: int, seconds: float | None = None) -> HostResult:
    """
    Read what salt-ssh returned for one host.

    Arguments:
        host: the target's name in the roster.
        returned: what ``salt.client.ssh.SSH`` yields: ``{"return": {...}}``, a list of errors, or the remains of a
            session that broke (``stdout``, ``stderr``, ``retcode``).
        retcode: salt-ssh's exit code for the host.
        seconds: wall time; by default that of all states.

    Returns a result that has succeeded only if there is a state, and no state failed.
    """
    states = returned.get("return") if isinstance(returned, Mapping) else None
    if isinstance(states, Mapping) and states:
        results = tuple(_state(key, value) for key, value in _in_order(states) if isinstance(value, Mapping))
        errors = ()
        if retcode and all(result.succeeded for result in results):
            errors = (f"salt-ssh ended with exit code {retcode}, though no state failed.",)
        if seconds is None:
            seconds = sum(result.seconds for result in results)
        return HostResult(host, results, errors, seconds)
    seconds = seconds or 0.0
    if states is not None and not states:
        errors = (
            "The host returned nothing: the states that were sent to it were replaced before it could run them. "
            "Another salt-ssh, perhaps on another machine, works on it at the same time. Nothing was applied.",
        )
    elif isinstance(returned, Mapping):
        errors = _broken_session(returned, retcode)
    else:
        lines = returned if isinstance(returned, Sequence) and not isinstance(returned, str) else [returned]
        errors = tuple(printable(_readable(str(line))) for line in lines)
    # The refusal of chatmail_apply.lock.
    busy = any(error.startswith("Another apply to ") for error in errors)
    return HostResult(host, (), errors, seconds, busy)


def _readable(error: str) -> str:
    """Return the error that a function raised while an SLS file rendered, without the template around it."""
    raised = re.search(r"Problem running salt function in Jinja template: (.*?); line \d+\n", error, re.DOTALL)
    return raised[1].strip() if raised else error.strip()


def _in_order(states: Mapping) -> list[tuple[str, object]]:
    def run_number(item: tuple[str, object]) -> int:
        value = item[1]
        return value.get("__run_num__", 0) if isinstance(value, Mapping) else 0

    return sorted(states.items(), key=run_number)


def _state(key: str, value: Mapping) -> StateResult:
    # Salt's key of a state's result: module_|-ID_|-name_|-function
    module, _, rest = key.partition("_|-")
    named, _, function = rest.rpartition("_|-")
    changes = value.get("changes") or {}
    warnings = value.get("warnings") or ()
    return StateResult(
        identifier=printable(value.get("__id__", rest.partition("_|-")[0])),
        function=printable(f"{module}.{function}"),
        sls=printable(value.get("__sls__", "")),
        # None is what test mode answers for a pending change: not a failure.
        succeeded=value.get("result") is not False,
        changed=bool(changes),
        comment=printable(value.get("comment", "")).strip(),
        seconds=_milliseconds(value.get("duration")) / 1000,
        pending=value.get("result") is None,
        warnings=tuple(printable(text) for text in warnings) if isinstance(warnings, list) else (),
        diff=printable(changes["diff"]).strip() if isinstance(changes, Mapping) and changes.get("diff") else "",
        name=named.rpartition("_|-")[2],
    )


def _milliseconds(duration: object) -> float:
    # A number, or text such as "12.5 ms" from states that salt skipped.
    try:
        return float(str(duration).removesuffix("ms"))
    except ValueError:
        return 0.0


def _broken_session(returned: Mapping, retcode: int) -> tuple[str, ...]:
    """Name what a session without a result left behind, the end of its output first of all."""
    for source in ("stderr", "stdout", "_error"):
        text = str(returned.get(source) or "").strip()
        if text:
            lines = [line for line in text.splitlines() if not line.startswith("SALT_ARGV:")]
            return (f"salt-ssh ended with exit code {retcode}:\n" + printable("\n".join(lines[-15:])),)
    return (f"salt-ssh ended with exit code {retcode} and no output.",)
