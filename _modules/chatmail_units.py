"""Whether systemd has read the drop-ins of services as they are on disk (systemd.unit(5))."""

import time
from pathlib import Path

from chatmail_services import run

UNIT_FILES = Path("/etc/systemd/system")


def __virtual__():
    return "chatmail_units"


def _read_at():
    """When systemd has read its units, in seconds since the epoch."""
    shown = run(["systemctl", "show", "--value", "--property=UnitsLoadTimestampMonotonic"]).stdout
    return time.time() - time.monotonic() + int(shown) / 1e6


def unread(services):
    """
    Return the paths (list) of drop-ins that changed after systemd has read its units; where one was removed, that of
    its directory.

    services
        Names of services, without ``.service``.

    systemd's own NeedDaemonReload does not tell of the first drop-in of a unit.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_units.unread '[dovecot]'
    """
    # Once in an apply: what a reload for one component has read by the way is still news to the services of the next.
    if "chatmail_units.read_at" not in __context__:
        __context__["chatmail_units.read_at"] = _read_at()
    read_at = __context__["chatmail_units.read_at"]
    files = []
    for service in services:
        drop_ins = UNIT_FILES / f"{service}.service.d"
        files += [drop_ins, *sorted(drop_ins.glob("*.conf"))]
    return [str(path) for path in files if path.exists() and path.stat().st_ctime > read_at]
