"""States for the relay's own bot; the work is in the execution module ``chatmail_echobot``."""

from salt.exceptions import CommandExecutionError


def __virtual__():
    return "chatmail_echobot"


def invites(name):
    """
    The bot can be written to: the comment is the link that opens a chat with it. Nothing is changed.

    .. code-block:: yaml

        echobot-link:
          chatmail_echobot.invites: []

    name
        Not used.
    """
    ret = {"name": name, "changes": {}, "result": True}
    try:
        return ret | {"comment": f"Delta Chat opens a chat with the echobot by {__salt__['chatmail_echobot.link']()}"}
    except CommandExecutionError as error:
        if __opts__["test"]:
            return ret | {"comment": "the echobot's first start will make its invite link"}
        return ret | {"result": False, "comment": str(error)}
