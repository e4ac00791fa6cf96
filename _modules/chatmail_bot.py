"""The bot that tells the relay's operator in a chat what got worse, and does what operators write to it."""

from chatmail_operator import ask_bot


def __virtual__():
    return "chatmail_bot"


def link():
    """
    Return a new link that makes whoever opens it in Delta Chat an operator; as a QR code it can be scanned.

    It lets one person in, within a day. A link that was made before is worth nothing any more.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_bot.link
    """
    return ask_bot("new-link")


def first_link():
    """
    Return the link for the first operator: the last one while it is valid, else a new one. Nothing where there is an
    operator.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_bot.first_link
    """
    return ask_bot("first-link")


def operators():
    """
    Return the addresses of those who are told, and whose commands are obeyed.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_bot.operators
    """
    return ask_bot("operators")


def remove(address):
    """
    Have the bot tell nothing more to an operator, and obey no command of theirs. Raises ``CommandExecutionError`` if no
    operator has this ``address``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_bot.remove alice1234@chat.example.org
    """
    ask_bot("remove", str(address))
    return f"{address} is no operator any more."
