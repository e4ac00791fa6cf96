"""
Mailboxes whose mail domain is no longer the relay's: found before an apply orphans them, moved where it is renamed.
"""

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

from salt.exceptions import CommandExecutionError

# What the last apply left.
RELAY = "etc/chatmail/relay.json"
DEFAULT_PARENT = "home/vmail/mail"
# What opens mailboxes. The first stops taking mail, so that other relays keep it and try again.
_READERS = ("postfix.service", "dovecot.socket", "dovecot.service", "echobot.service", "operator-bot.service")


def _last_apply(root):
    """``mail_domain`` and ``mailboxes_dir`` of the last apply, or nothing."""
    try:
        settings = json.loads(Path(root, RELAY).read_text())["settings"]
        return {key: settings[key] for key in ("mail_domain", "mailboxes_dir")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _directories(mailboxes_dir, root):
    """Where there may be mailboxes, those of the last apply too."""
    named = [mailboxes_dir, _last_apply(root).get("mailboxes_dir", mailboxes_dir)]
    paths = [Path(root, name.lstrip("/")) for name in named]
    paths += sorted(Path(root, DEFAULT_PARENT).glob("*/"))
    return [path for path in dict.fromkeys(paths) if path.is_dir()]


def _addresses(directory):
    with os.scandir(directory) as entries:
        # The relay's own bot has its address again by the next apply.
        return [one.name for one in entries if "@" in one.name and not one.name.startswith("echo@") and one.is_dir()]


def counts(mailboxes_dir, root="/"):
    """
    Return the number of mailboxes of each mail domain, those of earlier settings too.

    mailboxes_dir
        Directory of the mailboxes.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_mailboxes.counts /home/vmail/mail/chat.example.org
    """
    found = Counter()
    for directory in _directories(mailboxes_dir, root):
        found.update(address.rpartition("@")[2] for address in _addresses(directory))
    return dict(found)


def problems(mail_domain, mailboxes_dir, rename_from=None, root="/"):
    """
    Say which mailboxes would be out of everybody's reach after an apply, a list of sentences with what to do.

    Mailboxes of other domains count only where the domain is another one than that of the last apply, or where there
    was none (a relay of another deployment) and the domain has no mailboxes itself.

    mail_domain
        What stands after the @.
    mailboxes_dir
        Directory of the mailboxes.
    rename_from
        The mail domain whose mailboxes may be renamed, see ``docs/rename.md``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_mailboxes.problems chat.example.org /home/vmail/mail/chat.example.org
    """
    last = _last_apply(root).get("mail_domain")
    if last == mail_domain:
        return []
    found = counts(mailboxes_dir, root)
    if last is None and mail_domain in found:
        return []
    return [
        f"mail_domain is {mail_domain}, but {_mailboxes(count)} of {domain} on this host: nobody could log in to "
        f"them any more. If the name is a slip, write {domain} again. To give the relay a new name, write "
        f"`rename_from: {domain.strip('[]')}` below `chatmail:` in the pillar; docs/rename.md says what that does, and "
        "what it cannot do."
        for domain, count in sorted(found.items())
        if domain not in (mail_domain, rename_from) and last in (None, domain)
    ]


def _mailboxes(count):
    return "there is 1 mailbox" if count == 1 else f"there are {count} mailboxes"


def to_rename(mail_domain, mailboxes_dir, rename_from, root="/"):
    """
    Find the mailboxes that a rename moves.

    Returns a pair: a mapping of each mailbox to its new path, and a list of those that stay where they are, because
    their name is taken under the new domain.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_mailboxes.to_rename chat.example.org /home/vmail/mail/chat.example.org old.example.org
    """
    target = Path(root, mailboxes_dir.lstrip("/"))
    moves, taken = {}, []
    for directory in _directories(mailboxes_dir, root):
        for address in sorted(_addresses(directory)):
            local, _, domain = address.rpartition("@")
            if domain == rename_from:
                new = target / f"{local}@{mail_domain}"
                if new.exists() or str(new) in moves.values():
                    taken.append(str(directory / address))
                else:
                    moves[str(directory / address)] = str(new)
    return moves, taken


def rename(moves):
    """
    Move mailboxes, each by one rename(2), while nobody reads or writes them: Postfix, Dovecot and the bots are
    stopped; the rest of the apply starts them again.

    moves
        The first of what ``to_rename`` returns.

    Raises CommandExecutionError where one cannot be moved; the others that are to come stay, and nothing is lost.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_mailboxes.rename '{/srv/mail/a@old.test: /srv/mail/a@new.test}'
    """
    for unit in _READERS:
        # A unit that is not there is stopped.
        stopped = subprocess.run(["systemctl", "stop", unit], capture_output=True, text=True, timeout=120, check=False)
        if stopped.returncode not in (0, 5):
            raise CommandExecutionError(f"{unit} does not stop: {stopped.stderr.strip()}")
    for old, new in moves.items():
        try:
            Path(old).rename(new)
        except OSError as error:
            raise CommandExecutionError(
                f"{old} cannot be moved to {new}: {error.strerror}. Move it by hand, or make that possible; then apply "
                "again, which goes on and starts the mail services."
            ) from error
