"""
The relay's backup: saving now, reading all that was saved, and what there is.
"""

import json
import time
from pathlib import Path

from chatmail_errors import CommandExecutionError

SETTINGS = Path("/etc/chatmail/backup.toml")
RESULTS = Path("/var/lib/chatmail-backup")
UNITS = {"save": "chatmail-backup.service", "check": "chatmail-backup-check.service"}


def __virtual__():
    return "chatmail_backup"


def _run(what):
    """
    Let the unit of ``save`` or ``check`` do its work; returns how many seconds it took. Raises
    ``CommandExecutionError`` where it has not done it.
    """
    if not SETTINGS.exists():
        raise CommandExecutionError("this relay has no backup: the pillar has no backup_repository (docs/backup.md)")
    unit, begun = UNITS[what], time.time()
    __salt__["cmd.run_all"](["systemctl", "start", unit], python_shell=False, ignore_retcode=True)
    outcome = results().get(what)
    if outcome is None or outcome["tried"] < int(begun):
        raise CommandExecutionError(f"{unit} has not ended as it should; see journalctl -u {unit}")
    if outcome["problem"]:
        raise CommandExecutionError(outcome["problem"])
    return time.time() - begun


def results():
    """
    Return how the last backup (``save``) and the last reading of all (``check``) have ended, mappings: ``tried`` and
    ``good``, when it was tried and was good for the last time, in Unix seconds, and ``problem``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_backup.results
    """
    found = {}
    for name in UNITS:
        try:
            found[name] = json.loads((RESULTS / f"{name}.json").read_text())
        except (OSError, ValueError):
            continue
    return found


def save():
    """
    Save now what must not be lost, as the timer does each night.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_backup.save
    """
    return f"saved, in {_run('save'):.0f} s"


def check():
    """
    Read all that is in the repository and see that it is what was saved, as the timer does each month.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_backup.check
    """
    return f"all that was saved can be read, in {_run('check'):.0f} s"
