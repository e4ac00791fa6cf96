"""Who may have an address on the relay: invites, for relays that want them (``invite_only``)."""

import json

from salt.exceptions import CommandExecutionError

CONFIG = "/etc/chatmail/chatmail.ini"
_INVITES = ["/usr/bin/python3", "-m", "chatmaild.invites"]


def __virtual__():
    return "chatmail_account"


def _invites(*arguments):
    """What the relay's own command answers; it runs as vmail, which keeps the invites."""
    result = __salt__["cmd.run_all"](
        [*_INVITES, *arguments],
        runas="vmail",
        cwd="/",
        env={"PYTHONPATH": "/usr/local/lib/chatmaild"},
        python_shell=False,
        # An invite is nothing for the log.
        output_loglevel="quiet",
    )
    if result["retcode"] != 0:
        last = result["stderr"].strip().splitlines()[-1:]
        raise CommandExecutionError(
            f"{' '.join(last)}. Is this a relay? `salt-ssh relay state.apply chatmail` makes one."
        )
    return json.loads(result["stdout"])


def _link(token):
    """The link that makes an address with the invite; as a QR code it can be scanned."""
    for line in __salt__["file.read"](CONFIG).splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "mail_domain":
            return f"DCACCOUNT:https://{value.strip()}/new?invite={token}"
    raise CommandExecutionError(f"{CONFIG} has no mail_domain; `salt-ssh relay state.apply chatmail` writes it anew.")


def invite(uses=1, days=7):
    """
    Make an invite, with which ``uses`` addresses may be created (1 to 1000000) within ``days`` days (1 to 3650).

    Returns ``token``, with which the password of a new address has to begin, ``link``, which does that by itself when
    it is opened or scanned in Delta Chat, ``uses_left`` and ``expires`` (Unix seconds). Invites matter on relays with
    ``invite_only: true``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.invite uses=10 days=30
    """
    made = _invites("make", f"--uses={uses}", f"--days={days}")
    return {**made, "link": _link(made["token"])}


def invites():
    """
    Return the invites that are valid, each as ``invite`` does.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.invites
    """
    return [{**valid, "link": _link(valid["token"])} for valid in _invites("list")]


def revoke_invite(token):
    """
    Withdraw an invite. Addresses that were created with it stay. Raises ``CommandExecutionError`` if there is none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.revoke_invite abcdefgh0123
    """
    # An option or a path is no token; neither reaches the command.
    token = str(token)
    if not token.isalnum() or _invites("revoke", token) is not True:
        raise CommandExecutionError(
            f"there is no invite {token!r}; `salt-ssh relay chatmail_account.invites` shows those that are valid"
        )
    return True
