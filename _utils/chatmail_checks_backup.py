"""
The check of the backup: the last one is no older than a day, and all of it could be read not long ago.
"""

import time

from chatmail_checks import Check, Finding
from chatmail_words import age_text, one_line

# The timers' jitter is an hour and six hours.
SAVE_OVERDUE_S = 26 * 3600
CHECK_OVERDUE_S = 32 * 86400


def _collect(relay):
    now = time.time()
    results = relay.call["chatmail_backup.results"]() if relay.settings["backup_repository"] else {}
    return {
        name: {"ago": now - one["good"] if one["good"] else None, "problem": one["problem"]}
        for name, one in results.items()
    }


def _judge(facts, relay):
    if not relay.settings["backup_repository"]:
        return "none", []
    found = []
    for name, what, limit in (
        ("save", "the backup", SAVE_OVERDUE_S),
        ("check", "reading all of the backup", CHECK_OVERDUE_S),
    ):
        one = facts.get(name)
        again = relay.command(f"chatmail_backup.{name}")
        if one and one["problem"]:
            since = f", good {age_text(one['ago'])} ago" if one["ago"] is not None else ""
            told = f"{what} has failed{since}: {one_line(one['problem'])}"
            found.append(Finding("warning", f"backup-{name}-failed", told, f"when that is fixed: {again}"))
        elif one is None and name == "save":
            found.append(Finding("warning", "backup-save-never", "there is no backup yet", again))
        elif one and one["ago"] > limit:
            told = f"{what} was done {age_text(one['ago'])} ago for the last time"
            found.append(Finding("warning", f"backup-{name}-overdue", told, again))
    last = facts.get("save", {}).get("ago")
    return (f"{age_text(last)} ago" if last is not None and not found else ""), found


BACKUP = Check("backup", _collect, _judge)
