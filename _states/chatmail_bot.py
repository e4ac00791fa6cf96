"""States for the operator's bot; the work is in the execution module ``chatmail_bot``."""

from salt.exceptions import CommandExecutionError


def __virtual__():
    return "chatmail_bot"


def invites(name):
    """
    The bot can be joined: while it has no operator, comment and warning are the link for the first. Nothing is changed.

    .. code-block:: yaml

        operator_bot-link:
          chatmail_bot.invites: []

    name
        Not used.
    """
    ret = {"name": name, "changes": {}, "result": True}
    try:
        if link := __salt__["chatmail_bot.first_link"]():
            said = f"operator_bot: nobody is told yet. Open this in Delta Chat, it lets one person in: {link}"
            return ret | {"comment": said} | ({} if __opts__["test"] else {"warnings": [said]})
        return ret | {"comment": "The operator's bot has somebody to tell; chatmail_bot.link lets one more person in"}
    except CommandExecutionError as error:
        if __opts__["test"]:
            return ret | {"comment": "the first start of the operator's bot will make its link"}
        return ret | {"result": False, "comment": str(error)}
