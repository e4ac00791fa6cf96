"""The relay's own bot, which sends back what it is sent."""

from pathlib import Path

from salt.exceptions import CommandExecutionError

LINK = "/var/lib/echobot/invite-link.txt"


def __virtual__():
    return "chatmail_echobot"


def link():
    """
    Return the link that opens a chat with the bot in Delta Chat; as a QR code it can be scanned.

    Raises ``CommandExecutionError`` if there is none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_echobot.link
    """
    try:
        return Path(LINK).read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise CommandExecutionError(
            f"{LINK} is missing. Set `echobot: true` in the pillar and apply chatmail; if that is done, see"
            " `systemctl status echobot`"
        ) from error
