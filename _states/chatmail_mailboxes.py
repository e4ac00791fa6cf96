"""State for the mailboxes of a renamed relay; the work is in the execution module ``chatmail_mailboxes``."""

from salt.exceptions import CommandExecutionError


def __virtual__():
    return "chatmail_mailboxes"


def renamed(name, mail_domain, mailboxes_dir):
    """
    The mailboxes of the mail domain ``name`` are those of the same local parts under ``mail_domain``.

    .. code-block:: yaml

        chatmaild-mailboxes-renamed:
          chatmail_mailboxes.renamed:
            - name: old.example.org
            - mail_domain: chat.example.org
            - mailboxes_dir: /home/vmail/mail/chat.example.org

    Passwords, messages and the devices to notify go with them. One whose local part somebody else has under the new
    domain already stays where it is; nothing is overwritten or deleted.

    mail_domain
        What stands after the @ from now on.
    mailboxes_dir
        Where the mailboxes are from now on.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"There is no mailbox of {name} to rename."}
    moves, taken = __salt__["chatmail_mailboxes.to_rename"](mail_domain, mailboxes_dir, name)
    stays = "".join(f"\nIts name is taken under {mail_domain}, so it stays: {path}" for path in taken)
    if not moves:
        ret["comment"] += stays
        return ret
    changes = {"mailboxes": {"old": f"{len(moves)} of {name}", "new": f"{len(moves)} of {mail_domain}"}}
    if __opts__["test"]:
        return ret | {"result": None, "changes": changes, "comment": f"{len(moves)} mailboxes would be renamed.{stays}"}
    try:
        __salt__["chatmail_mailboxes.rename"](moves)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    return ret | {"changes": changes, "comment": f"{len(moves)} mailboxes were renamed.{stays}"}
