"""States for the relay's DKIM key; the work is in the execution module ``chatmail_dkim``."""

from pathlib import Path

from salt.exceptions import CommandExecutionError


def __virtual__():
    return "chatmail_dkim"


def key_present(name):
    """
    The private key with which the relay signs is in place; it is made on the host if there is none, and never replaced.

    .. code-block:: yaml

        opendkim-key:
          chatmail_dkim.key_present:
            - name: /etc/dkimkeys

    name
        Directory of the keys (PEM, RSA) and of OpenDKIM's KeyTable, which names the one that signs.
    """
    # Before the first apply the host may lack what the module needs; then there is no rotation either.
    selector = __salt__.get("chatmail_dkim.selector", lambda directory: "opendkim")(name)
    key = str(Path(name, f"{selector}.private"))
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{key} is a usable key"}
    if not Path(key).exists():
        ret["changes"] = {key: {"old": "missing", "new": "RSA key of 2048 bits"}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"{key} would be made")
            return ret
        try:
            __salt__["chatmail_dkim.make_key"](key)
        except (CommandExecutionError, OSError) as error:
            ret.update(result=False, changes={}, comment=f"{key} could not be made: {error}")
            return ret
        ret["comment"] = f"{key} was made"
    problem = __salt__["chatmail_dkim.problem"](key)
    if problem:
        ret.update(
            result=False,
            comment=f"{problem}. It is not replaced, since other relays may still verify what it signed: "
            "move the file away, apply again, and publish the new record (chatmail_dkim.record).",
        )
    return ret
