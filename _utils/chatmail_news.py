"""
What got worse with relays, or well again, each told once: for ``./relay watch``, and for the bot on the relay.

No function here reads or writes anything. Faults are mappings of text by a key that stays the same while a fault does.
"""

from collections.abc import Mapping

LEVELS = ("warning", "error")
"""Levels of findings that are worth a message."""
AWAY = "away"
"""The key of a relay's fault that it cannot be asked."""
TEXT_LIMIT = 500


def why_away(said: object) -> str:
    """Return why ``said``, what was answered to a question for a relay's status, is none; empty where it is one."""
    if isinstance(said, Mapping) and "findings" in said:
        return ""
    # Under --static a function's result is the value itself; a host that was not reached has a text, or stderr.
    text = said.get("stderr") or said.get("_error") if isinstance(said, Mapping) else said
    return " ".join(str(text).split()) or "no answer"


def faults(said: object) -> dict[str, str]:
    """
    Return what is wrong with a relay: by a key that stays the same while the fault does, what it is and what to do.

    ``said`` is its status, or what was answered instead.
    """
    if text := why_away(said):
        return {AWAY: f"it cannot be asked for its status: {text}"[:TEXT_LIMIT]}
    return {
        "/".join(str(finding.get(part, "")) for part in ("check", "kind", "unit")): finding_text(finding)
        for finding in said["findings"]
        if finding["level"] in LEVELS
    }


def finding_text(finding: Mapping) -> str:
    """Return a finding of a status as one line: how bad, what it is, what to do."""
    return f"{finding['level']}: {finding['what']}. {finding['do']}"[:TEXT_LIMIT]


def changes(known: Mapping[str, str], wrong: Mapping[str, str]) -> list[str]:
    """
    Return what is new in the faults ``wrong`` of one relay, and what of ``known`` is well again, a line each.

    While a relay cannot be asked, nobody knows what else is well again.
    """
    lines = [text for key, text in wrong.items() if key not in known]
    if AWAY not in wrong:
        lines += [f"well again: {text}" for key, text in known.items() if key not in wrong]
    return lines


def news(before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the ``changes`` of several relays, each line with the name of its relay."""
    return [f"{relay}: {line}" for relay, wrong in now.items() for line in changes(before.get(relay, {}), wrong)]


def remembered(before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> dict[str, dict]:
    """Return what the next run compares with: what is wrong, and what was before a relay went away."""
    return {
        relay: ({**before.get(relay, {}), **wrong} if AWAY in wrong else dict(wrong)) for relay, wrong in now.items()
    }
