"""What systemd makes of units, of many by one look."""

from chatmail_services import run, unit_states


def __virtual__():
    return "chatmail_service"


def found(units):
    """
    Return what systemd makes of units, by their names: mappings of ``load``, ``active`` and ``file``, whose values are
    those of LoadState, ActiveState (systemctl(1), `show`) and of the state in `list-unit-files`, empty without a file.

    units
        Their full names (list), such as ``dovecot.service``.

    The state of files is asked for apart: `show` tells what it was when systemd read them.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_service.found '[dovecot.service]'
    """
    files = run(["systemctl", "list-unit-files", "--plain", "--no-legend", "--no-pager", *units]).stdout
    of_file = dict(line.split()[:2] for line in files.splitlines())
    return {
        name: {"load": state["LoadState"], "active": state["ActiveState"], "file": of_file.get(name, "")}
        for name, state in unit_states(units).items()
        if name
    }
