"""
One apply at a time to each relay, seen from the machine where salt-ssh runs.

salt-ssh copies its states to one fixed path on the target. Where two runs overlap, the later copy replaces the
earlier one, and the run that finds a stranger's archive there returns nothing at all with exit code 0
(``state.pkg`` in Salt). The lock ends the later run before it has sent anything.
"""

import fcntl
import os
import shlex
import sys
import time
from pathlib import Path

import salt.client.ssh
from salt.exceptions import CommandExecutionError

CONNECT_TIMEOUT_S = 10


def lock():
    """
    Hold the target's lock until this run of salt-ssh ends, or refuse to go on.

    The preflight SLS calls this while it renders, which happens on the controller. Runs that only show what would be
    applied (``state.show_sls`` and its like) send no states and take no lock.

    Returns an empty string, so that it can stand in a template.

    Raises ``CommandExecutionError`` where another run holds the lock: its process, since when, and what to do.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_apply.lock"]() }}
    """
    master_opts = __opts__["__master_opts__"]
    function = master_opts["argv"][0]
    if function.startswith("state.show_") or "chatmail_apply.lock" in __context__:
        return ""
    target = __opts__["id"]
    path = Path(master_opts["cachedir"], "apply", target)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode() or "another process"
        os.close(descriptor)
        raise CommandExecutionError(
            f"Another apply to {target} is running ({holder}). Wait until it has ended, then apply again."
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()}, since {time.strftime('%H:%M:%S')}".encode(), 0)
    # Salt hears of the target when all is done: nothing is printed until then, some minutes at the first apply.
    if sys.stderr.isatty() and not master_opts.get("shows_progress"):
        print(f"{target}: the outcome is told at the end; ./relay apply shows how far it is.", file=sys.stderr)
    # Closed, and so released, by the end of this process, however it ends; never inherited (PEP 446).
    __context__["chatmail_apply.lock"] = descriptor
    return ""


def ssh_argv(script, options=()):
    """
    Return the command that runs a shell script on the target as root, connected as salt-ssh is, and never asking.

    script
        For ``sh -c``.
    options
        Options of ssh(1) that go before those of the roster.

    CLI Example:

    .. code-block:: jinja

        {{ salt["chatmail_apply.ssh_argv"]("uptime") }}
    """
    target = __salt__.kwargs
    shell = salt.client.ssh.Single(__opts__, ["test.ping"], disable_wipe=True, **target).shell
    program, *theirs = shlex.split(shell._cmd_str(""))
    command = shlex.join([*(["sudo", "-n"] if target.get("sudo") else []), "sh", "-c", script])
    ours = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}", *options]
    return [program, *ours, *theirs, command]
