"""
Rules that forward the ports of a relay, loaded on trial: they are undone by a timer unless somebody who connected after
they were loaded confirms them. Nobody is locked out of a host for longer than that, whatever the rules say.
"""

import contextlib
import subprocess
import time
from pathlib import Path

from salt.exceptions import CommandExecutionError

from chatmail_session import ask

RULES = "/etc/chatmail/proxy.nft"
RUN = "/run/chatmail-proxy"
SERVICE = "chatmail-proxy.service"
UNDO = "chatmail-proxy-undo"


def __virtual__():
    return "chatmail_proxy"


def _confirmed(rules):
    """What the service loads: the rules that were confirmed last."""
    return Path(rules).with_suffix(".confirmed.nft")


def _run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise CommandExecutionError(f"`{argv[0]}` failed: {done.stderr.strip() or done.returncode}")


def interfaces_with_advertised_routes(root="/"):
    """
    Return the network interfaces on which the kernel takes routes from router advertisements (RFC 4861), and
    ``default`` where it would do so on new ones.

    CLI Example:

    .. code-block:: bash

        salt-ssh proxy chatmail_proxy.interfaces_with_advertised_routes
    """
    found = []
    for path in sorted(Path(root, "proc/sys/net/ipv6/conf").glob("*/accept_ra")):
        interface = path.parent.name
        with contextlib.suppress(OSError):
            if interface not in ("all", "lo") and path.read_text().strip() != "0":
                found.append(interface)
    return found


def is_confirmed(rules=RULES):
    """
    Whether the rules in the file ``rules`` are those that were confirmed last.

    CLI Example:

    .. code-block:: bash

        salt-ssh proxy chatmail_proxy.is_confirmed
    """
    confirmed = _confirmed(rules)
    return confirmed.is_file() and confirmed.read_bytes() == Path(rules).read_bytes()


def begin_trial(seconds, rules=RULES, run=RUN):
    """
    Load the rules, to be undone after ``seconds`` unless :func:`end_trial` says otherwise: by a timer of systemd's,
    which does not depend on who started it. Raises ``CommandExecutionError`` if that fails; nothing is loaded then.

    CLI Example:

    .. code-block:: bash

        salt-ssh proxy chatmail_proxy.begin_trial 120
    """
    trial = Path(run, "trial")
    # A trial whose apply was killed.
    subprocess.run(["systemctl", "stop", f"{UNDO}.timer"], capture_output=True, timeout=60, check=False)
    trial.parent.mkdir(mode=0o755, exist_ok=True)
    for mark in ("loaded", "reached"):
        trial.with_name(mark).unlink(missing_ok=True)
    _run("systemctl", "daemon-reload")
    _run("systemd-run", "--quiet", f"--unit={UNDO}", f"--on-active={seconds}s", "--timer-property=AccuracySec=1s")
    trial.write_text(f"RULES={rules}\n")
    try:
        _run("systemctl", "reload-or-restart", SERVICE)
    except CommandExecutionError:
        end_trial(False, rules, run)
        raise
    trial.with_name("loaded").touch()


def confirm(run=RUN):
    """
    Confirm the rules that are on trial. To be called over a connection that was made after they were loaded.

    Returns false if none are on trial.

    CLI Example:

    .. code-block:: bash

        salt-call --local chatmail_proxy.confirm
    """
    loaded = Path(run, "loaded").exists()
    if loaded:
        Path(run, "reached").touch()
    return loaded


def wait_until_confirmed(seconds, run=RUN):
    """
    Wait until the rules on trial are confirmed, ``seconds`` at most; return whether they are. The salt-ssh that applies
    states to this host, if there is one, is asked to try a new connection.

    CLI Example:

    .. code-block:: bash

        salt-ssh proxy chatmail_proxy.wait_until_confirmed 20
    """
    deadline = time.monotonic() + seconds
    # Where it cannot, somebody may confirm by hand.
    with contextlib.suppress(CommandExecutionError):
        ask({"service": "reach"}, seconds)
    while not Path(run, "reached").exists():
        if time.monotonic() > deadline or not Path(run, "loaded").exists():
            return False
        time.sleep(0.1)
    return True


def end_trial(keep, rules=RULES, run=RUN):
    """
    End the trial: keep the rules, also for the next boot, or undo them now, ahead of the timer.

    Raises ``CommandExecutionError`` where the timer was faster, or undoing fails.

    CLI Example:

    .. code-block:: bash

        salt-ssh proxy chatmail_proxy.end_trial false
    """
    if not keep:
        # The timer's own service, so that there is one way to undo.
        _run("systemctl", "start", f"{UNDO}.service")
        subprocess.run(["systemctl", "stop", f"{UNDO}.timer"], capture_output=True, timeout=60, check=False)
        return
    _run("systemctl", "stop", f"{UNDO}.timer")
    if not Path(run, "trial").exists():
        raise CommandExecutionError("the timer has undone the rules already")
    confirmed = _confirmed(rules)
    draft = confirmed.with_suffix(".new")
    draft.write_bytes(Path(rules).read_bytes())
    draft.chmod(0o644)
    draft.replace(confirmed)
    for mark in ("trial", "loaded"):
        Path(run, mark).unlink()
