"""
Sockets on which systemd listens for services of the relay, so that a restart of a service refuses nobody
(systemd.socket(5)). Each service has a socket unit of its own name, which it requires.
"""

import subprocess
import time
from pathlib import Path

from salt.exceptions import CommandExecutionError

UNIT_FILES = Path("/etc/systemd/system")
# A service answers whom it has accepted before it ends.
TIMEOUT_S = 100


def __virtual__():
    return "chatmail_socket"


def _systemctl(*arguments):
    done = subprocess.run(
        ["systemctl", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise CommandExecutionError(f"`systemctl {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout


def outdated(services):
    """
    Say which sockets are not as their units say: ``{service: why}``, empty if all are.

    services
        Names of services, without ``.service``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_socket.outdated '[doveauth]'
    """
    found = {}
    names = [f"{service}.socket" for service in services]
    shown = _systemctl("show", "--property=ActiveState,InactiveExitTimestampMonotonic", *names)
    booted = time.time() - time.monotonic()
    for service, block in zip(services, shown.strip().split("\n\n"), strict=True):
        state = dict(line.partition("=")[::2] for line in block.splitlines())
        path = UNIT_FILES / f"{service}.socket"
        if state["ActiveState"] != "active":
            found[service] = state["ActiveState"]
        elif path.exists() and path.stat().st_ctime > booted + int(state["InactiveExitTimestampMonotonic"]) / 1e6:
            found[service] = "as before its unit changed"
    return found


def listen(services):
    """
    Have systemd listen for ``services`` (names, without ``.service``), where their socket units say. The services are
    stopped; whoever connects starts them again.

    An older version of a service may listen by itself, and two may change ports, so all of them stop before the first
    socket is made. Raises ``CommandExecutionError`` if systemd refuses.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_socket.listen '[doveauth]'
    """
    # Still by the units that they were started with, which may remove the directories of their sockets.
    known = _systemctl("list-units", "--all", "--plain", "--no-legend", "*.service", "*.socket").split("\n")
    loaded = {line.split()[0] for line in known if line}
    units = [f"{service}.{kind}" for kind in ("socket", "service") for service in services]
    if running := [unit for unit in units if unit in loaded]:
        _systemctl("stop", *running)
    _systemctl("daemon-reload")
    _systemctl("start", *(f"{service}.socket" for service in services))
