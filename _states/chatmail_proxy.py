"""States for a relay's proxy; the work is in the execution module ``chatmail_proxy``."""

from salt.exceptions import CommandExecutionError

# By this much the timer is later than the state, which undoes the rules itself if it still can.
TIMER_AFTER_S = 10


def __virtual__():
    return "chatmail_proxy"


def confirmed(name, seconds=20):
    """
    The rules in a file are loaded, and the host was reached over a new connection since: under salt-ssh by the
    controller, else by ``salt-call --local chatmail_proxy.confirm`` from a second login. Rules that nobody confirms are
    undone.

    .. code-block:: yaml

        proxy-confirmed:
          chatmail_proxy.confirmed:
            - name: /etc/chatmail/proxy.nft
            - seconds: 20

    name
        Path of the rules, as ``nft --file`` takes them.
    seconds
        How long to wait for the confirmation. A timer undoes the rules ten seconds later, whatever became of this
        state.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} is in force"}
    if __salt__["chatmail_proxy.is_confirmed"](name):
        return ret
    changes = {name: {"old": "not loaded", "new": "loaded and confirmed"}}
    if __opts__["test"]:
        return ret | {"result": None, "changes": changes, "comment": f"{name} would be loaded, on trial"}
    try:
        __salt__["chatmail_proxy.begin_trial"](seconds + TIMER_AFTER_S, name)
        reached = __salt__["chatmail_proxy.wait_until_confirmed"](seconds)
        __salt__["chatmail_proxy.end_trial"](reached, name)
    except (CommandExecutionError, OSError) as error:
        return ret | {"result": False, "comment": f"{name} is not in force: {error}"}
    if not reached:
        comment = (
            f"Nobody reached this host within {seconds} s over a new connection, so the rules are undone. "
            "See with `nft list ruleset` what keeps ssh out, then apply again."
        )
        return ret | {"result": False, "comment": comment}
    return ret | {"changes": changes}
