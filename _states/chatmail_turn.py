"""States for the TURN server's secret; the work is in the execution module ``chatmail_turn``."""

from pathlib import Path

from salt.exceptions import CommandExecutionError


def __virtual__():
    return "chatmail_turn"


def secret_present(name):
    """
    A secret is in place; it is made on the host if there is none, and never replaced or shown.

    .. code-block:: yaml

        turn-secret:
          chatmail_turn.secret_present:
            - name: /etc/chatmail/turn-secret

    name
        Path of the file.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} is a usable secret"}
    if not Path(name).exists():
        ret["changes"] = {name: {"old": "missing", "new": "random secret"}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"{name} would be made")
            return ret
        try:
            __salt__["chatmail_turn.make_secret"](name)
        except (CommandExecutionError, OSError) as error:
            ret.update(result=False, changes={}, comment=f"{name} could not be made: {error}")
            return ret
        ret["comment"] = f"{name} was made"
    problem = __salt__["chatmail_turn.problem"](name)
    if problem:
        ret.update(
            result=False,
            comment=f"{problem}. Remove the file and apply again: that makes a new one and ends all credentials.",
        )
    return ret
