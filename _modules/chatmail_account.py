"""
The relay's addresses: which there are, shutting one off, removing one, stopping new ones; and invites, for relays that
want them (``invite_only``).
"""

import json
import time
from pathlib import Path

from chatmail_errors import CommandExecutionError
from chatmail_services import ask, run
from chatmail_words import size_text

RELAY = Path("/etc/chatmail/relay.json")
# While it is there, doveauth creates no address.
NOCREATE = Path("/etc/chatmail-nocreate")
DISCONNECT_S = 10

__func_alias__ = {"list_": "list"}
__outputter__ = dict.fromkeys(
    ("list_", "info", "ban", "unban", "delete", "nocreate", "invite", "invites"),
    "chatmail",
)


def __virtual__():
    return "chatmail_account"


def _run(program, *arguments):
    """What one of the relay's own programs answers; it runs as vmail, whose the mailboxes and invites are."""
    try:
        return ask(program, *arguments, user="vmail", group="vmail")
    except KeyError:
        said = "there is no user vmail."
    except CommandExecutionError as error:
        said = str(error)
        if "No module named" not in said:
            raise
    raise CommandExecutionError(f"{said} This is no relay yet: `salt-ssh relay state.apply chatmail` makes one.")


def _one(command, address):
    # An option is no address.
    if "@" not in str(address) or str(address).startswith("-"):
        raise CommandExecutionError(
            f"{address!r} is no address; `salt-ssh relay chatmail_account.list` shows those that there are"
        )
    return _run("accounts", command, str(address))


def _connections(address):
    """How many clients are connected with an address."""
    who = run(["doveadm", "-f", "tab", "who", "-1", address])
    # The first line is a heading.
    return max(0, len(who.stdout.splitlines()) - 1)


def _disconnect(address):
    """End what a banned address is connected with. Raises ``CommandExecutionError`` if that does not end in time."""
    end = time.monotonic() + DISCONNECT_S
    while connections := _connections(address):
        if time.monotonic() > end:
            raise CommandExecutionError(
                f"{address} is banned, but {connections} clients are still connected with it; on the relay, "
                "`systemctl restart dovecot` ends all connections"
            )
        # One that hibernated a moment ago is not a process of its own yet.
        run(["doveadm", "kick", address])
        time.sleep(0.1)


def list_(order="size", limit=50, banned=False):
    """
    List addresses.

    order
        Which come first: by ``size`` the largest, by ``last_login`` those not used for longest, or by ``address``.
    limit
        How many are listed at most.
    banned
        Only those that are shut off.

    Returns a mapping: ``count``, how many there are; ``listed``, each with ``address``, ``size`` (bytes, as its quota
    counts), ``last_login`` (Unix seconds of the day) and ``banned``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.list
        salt-ssh relay chatmail_account.list order=last_login limit=1000
    """
    options = [f"--order={order}", f"--limit={limit}", *(["--banned"] if banned else [])]
    return _run("accounts", "list", *options)


def info(address):
    """
    Return what there is to tell of an address: as ``list`` does, and ``messages``, ``takes_cleartext`` (whether
    unencrypted mail may come in), ``connections``. Raises ``CommandExecutionError`` if there is no such address.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.info alice1234@chat.example.org
    """
    told = _one("info", address)
    return {**told, "connections": _connections(told["address"])}


def ban(address, *further):
    """
    Shut an address off: it cannot log in, and mail to and from it is dropped. Its messages stay; its clients
    are disconnected. Returns as ``list`` does. Raises ``CommandExecutionError`` if there is no such address.

    further
        More addresses. Then a list is returned, and those that are not there are named when all others are banned.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.ban alice1234@chat.example.org
        salt-ssh relay chatmail_account.ban $(cat FILE)
    """
    if not further:
        return _ban(address)
    told, wrong = [], []
    for one in (address, *further):
        try:
            told.append(_ban(one))
        except CommandExecutionError as error:
            wrong.append(str(error))
    if wrong:
        raise CommandExecutionError(f"{len(told)} of {len(told) + len(wrong)} are banned. {'; '.join(wrong)}")
    return told


def _ban(address):
    told = _one("ban", address)
    _disconnect(told["address"])
    return told


def unban(address):
    """
    Undo ``ban``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.unban alice1234@chat.example.org
    """
    return _one("unban", address)


def delete(address):
    """
    Remove an address with all its messages for good. Whoever logs in with it next creates it again: ``ban`` keeps
    people out. Returns what was removed, as ``list`` does, and ``result``, a sentence. Raises
    ``CommandExecutionError`` if there is none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.delete alice1234@chat.example.org
    """
    # Nobody logs in, and nothing comes in, while it goes.
    told = _ban(address)
    gone = _one("delete", told["address"])
    return gone | {"result": f"{gone['address']} is deleted, with all its messages ({size_text(gone['size'])})."}


def nocreate(on=None):
    """
    Stop the creation of addresses (``on=True``), or let it go on (``on=False``). Those that there are stay. Returns
    a mapping: ``stopped``, whether it is, and ``result``, a sentence; without ``on`` nothing is changed.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.nocreate on=True
    """
    if on not in (None, True, False):
        raise CommandExecutionError(f"on is {on!r}; allowed is True or False, or nothing")
    if on:
        NOCREATE.touch(mode=0o644)
    elif on is False:
        NOCREATE.unlink(missing_ok=True)
    stopped = NOCREATE.exists()
    says = "Nobody can create an address; those that there are stay." if stopped else "Addresses can be created."
    return {"stopped": stopped, "result": says}


def _link(token):
    """The link that makes an address with the invite; as a QR code it can be scanned."""
    domain = json.loads(RELAY.read_text())["settings"]["mail_domain_bare"]
    return f"DCACCOUNT:https://{domain}/new?invite={token}"


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
    made = _run("invites", "make", f"--uses={uses}", f"--days={days}")
    return {**made, "link": _link(made["token"])}


def invites():
    """
    Return the invites that are valid, each as ``invite`` does.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.invites
    """
    return [{**valid, "link": _link(valid["token"])} for valid in _run("invites", "list")]


def revoke_invite(token):
    """
    Withdraw an invite. Addresses that were created with it stay. Raises ``CommandExecutionError`` if there is none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_account.revoke_invite abcdefgh0123
    """
    # An option or a path is no token; neither reaches the command.
    token = str(token)
    if not token.isalnum() or _run("invites", "revoke", token) is not True:
        raise CommandExecutionError(
            f"there is no invite {token!r}; `salt-ssh relay chatmail_account.invites` shows those that are valid"
        )
    return True
