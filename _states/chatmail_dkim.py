"""States for the relay's DKIM key; the work is in the execution module ``chatmail_dkim``."""

from pathlib import Path

from salt.exceptions import CommandExecutionError


def __virtual__():
    return "chatmail_dkim"


def key_present(name):
    """
    A private key that can sign is in place; it is made on the host if there is none, and never replaced.

    .. code-block:: yaml

        opendkim-key:
          chatmail_dkim.key_present:
            - name: /etc/dkimkeys/opendkim.private

    name
        Path of the key (PEM, RSA); the stem of the file name is the selector.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} is a usable key"}
    if not Path(name).exists():
        ret["changes"] = {name: {"old": "missing", "new": "RSA key of 2048 bits"}}
        if __opts__["test"]:
            ret.update(result=None, comment=f"{name} would be made")
            return ret
        try:
            __salt__["chatmail_dkim.make_key"](name)
        except (CommandExecutionError, OSError) as error:
            ret.update(result=False, changes={}, comment=f"{name} could not be made: {error}")
            return ret
        ret["comment"] = f"{name} was made"
    problem = __salt__["chatmail_dkim.problem"](name)
    if problem:
        ret.update(
            result=False,
            comment=f"{problem}. It is not replaced, since other relays may still verify what it signed: "
            "move the file away, apply again, and publish the new record (chatmail_dkim.record).",
        )
    return ret
