"""States for sockets on which systemd listens; the work is in the execution module ``chatmail_socket``."""

from salt.exceptions import CommandExecutionError


def __virtual__():
    return "chatmail_socket"


def listening(name, services):
    """
    systemd listens for services, where their socket units say.

    .. code-block:: yaml

        chatmaild-sockets:
          chatmail_socket.listening:
            - services: [doveauth, filtermail]

    services
        Names of services, without ``.service``; each has a socket unit of the same name.

    The services of sockets that are made or change are stopped; start them in a later state. Unlike a ``watch`` this
    also fixes what an interrupted apply left.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "All sockets are as their units say"}
    outdated = __salt__["chatmail_socket.outdated"](services)
    if not outdated:
        return ret
    ret["changes"] = {f"{service}.socket": {"old": why, "new": "listening"} for service, why in outdated.items()}
    if __opts__["test"]:
        ret.update(result=None, comment="Sockets would be made")
        return ret
    try:
        __salt__["chatmail_socket.listen"](list(outdated))
        problem = ""
    except CommandExecutionError as error:
        problem = str(error)
    if left := __salt__["chatmail_socket.outdated"](list(outdated)):
        ret["changes"] = {
            unit: change for unit, change in ret["changes"].items() if unit[: -len(".socket")] not in left
        }
        ret["result"] = False
        ret["comment"] = "\n".join(
            [
                *filter(None, [problem]),
                *(f"{service}.socket is {why}; see `journalctl -u {service}.socket`" for service, why in left.items()),
            ]
        )
    else:
        ret["comment"] = "Sockets were made"
    return ret
