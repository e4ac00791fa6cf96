"""
What an upgrade replaces: kept before it, noted after it, and put back.

``tools/upgrade.py`` calls these in order; ``_utils/chatmail_kept.py`` says how it is kept. Mail and addresses are no
part of it: nothing that was accepted is lost by going back.
"""

import json
import time
from pathlib import Path

from salt.exceptions import CommandExecutionError

import chatmail_kept
from chatmail_dovecot_plugin import PLUGIN
from chatmail_services import unit_states

RELAY = Path("/etc/chatmail/relay.json")
# Never stopped: what others say would be lost.
JOURNAL = "systemd-journald.service"
# What a controller compares with, and tells.
COMPARED = ("since", "version", "findings")
UP = ("active", "reloading", "activating")
# Verbs of systemctl, by what a unit file is to be.
VERBS = {"enabled": "enable", "disabled": "disable", "masked": "mask"}

__outputter__ = {"listed": "chatmail"}


def __virtual__():
    return "chatmail_upgrade"


def _units(names):
    """What systemd says of units, and of the sockets of services: enabled or not, and whether it runs."""
    names = {name if "." in name else f"{name}.service" for name in names}
    names |= {name.replace(".service", ".socket") for name in names}
    # Those that an upgrade brings are not there yet.
    return {
        name: [state["UnitFileState"], state["ActiveState"] in UP] for name, state in unit_states(sorted(names)).items()
    }


def begin(paths, units, findings):
    """
    Keep what an upgrade may change, until the last three upgrades are later ones.

    paths
        Files and directories (list of absolute paths).
    units
        Names of units of systemd (list).
    findings
        What the status has found (list of mappings), to be compared with afterwards.

    Returns ``since`` when this is kept (Unix seconds), the formula's ``version`` and the ``findings`` then: of an
    upgrade that was killed they are from before it.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_upgrade.begin '[/etc/postfix/main.cf]' '[postfix]' '[]'
    """
    notes = {
        "since": int(time.time()),
        "version": json.loads(RELAY.read_text())["version"],
        "findings": findings,
        "units": _units(units),
        "packages": __salt__["pkg.list_pkgs"](),
    }
    try:
        kept = chatmail_kept.keep([*paths, str(PLUGIN)], notes)
    except OSError as error:
        raise CommandExecutionError(f"what is there cannot be kept: {error}") from error
    before = kept.before
    # Of an upgrade that was killed: what that one did not know has not been changed by it.
    kept.note("before.json", before | {"units": notes["units"] | before["units"]})
    return {name: before[name] for name in COMPARED}


def finish():
    """
    Note that the upgrade is done, and what it has changed, which is what ``undo`` puts back from now on.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_upgrade.finish
    """
    *_, upgrade = chatmail_kept.upgrades()
    before = upgrade.before
    now = _units(before["units"])
    units = {name: state for name, state in before["units"].items() if now[name] != state}
    chatmail_kept.finish(upgrade, {"packages": _other_packages(before), "units": units})
    return listed()


def listed():
    """
    List the upgrades that can be undone, the newest first: since when what was before is kept, which version of the
    formula that was, and whether the upgrade is finished.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_upgrade.listed
    """
    found = [(one.before, one.changed) for one in reversed(chatmail_kept.upgrades())]
    return [
        {
            "since": before["since"],
            "version": before["version"],
            "finished": changed is not None,
            "files": len(changed["paths"]) if changed else None,
        }
        for before, changed in found
    ]


def undo():
    """
    Put back what was there before the last upgrade: files, packages as far as apt has them, units. What ran then runs
    again, restarted where there is anything to put back.

    Returns ``paths`` and ``packages`` that are as before (lists), packages that are ``left`` as they are (list), and
    of what is there again ``since``, ``version`` and ``findings``, as ``begin`` does.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_upgrade.undo
    """
    kept = chatmail_kept.upgrades()
    if not kept:
        raise CommandExecutionError("nothing is kept here of an upgrade, so there is nothing to put back")
    upgrade = kept[-1]
    before = upgrade.before
    changed = upgrade.changed or {"packages": _other_packages(before), "units": before["units"]}
    left = __salt__["chatmail_package.revert"](changed["packages"])

    paths = chatmail_kept.changed_paths(upgrade)
    now, back = _units(before["units"]), changed["units"]
    # With those that an earlier call has stopped, if it was killed before they ran again.
    names = sorted({*_running(now | back), *upgrade.to_start})
    upgrade.note(chatmail_kept.TO_START, names)
    # By their present unit files, which may not be there any more afterwards.
    if paths or changed["packages"]:
        _systemctl("stop", _running(now))
    try:
        for name, (file, _) in back.items():
            if now[name][0] in ("enabled", "masked") and now[name][0] != file:
                _systemctl("disable" if now[name][0] == "enabled" else "unmask", [name])
        chatmail_kept.put_back(upgrade)
        _systemctl("daemon-reload", [])
        files = {name: file for name, (file, _) in _units(before["units"]).items()}
        for name, (file, _) in back.items():
            if file in VERBS and file != files[name]:
                _systemctl(VERBS[file], [name])
    except OSError as error:
        raise CommandExecutionError(f"not all could be put back: {error}. Fix that, then do this again.") from error
    finally:
        _systemctl("try-restart", [JOURNAL])
        _systemctl("reset-failed", names)
        _systemctl("start", names)
    chatmail_kept.forget(upgrade)
    return {
        "paths": paths,
        "packages": sorted(changed["packages"].keys() - set(left)),
        "left": left,
        **{name: before[name] for name in COMPARED},
    }


def _other_packages(before):
    """Versions from before (mapping) of the packages that have another one now, or none."""
    now = __salt__["pkg.list_pkgs"]()
    return {name: version for name, version in before["packages"].items() if now.get(name) != version}


def _running(units):
    return [name for name, (_, runs) in units.items() if runs and name != JOURNAL]


def _systemctl(verb, names):
    if names or verb == "daemon-reload":
        # What does not stop or start is what the status tells of.
        argv = ["systemctl", "--quiet", verb, *names]
        __salt__["cmd.run_all"](argv, python_shell=False, ignore_retcode=True)
