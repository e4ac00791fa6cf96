"""
Refuses a host that is not fit to be a relay, before anything on it is touched, and then makes it the relay's.
"""

from salt.exceptions import CommandExecutionError


def __virtual__():
    if "chatmail_preflight.problems" in __salt__:
        return True
    return False, "the execution module chatmail_preflight is missing"


def passed(name, ports, takeover=False, addresses=(), relay=True, *, mailboxes=None):
    """
    Promise that the host runs Debian 12 or 13 and is large enough, that the relay's ports are free or the relay's, that
    no configuration of somebody else is in the way, and that no mailbox would be orphaned; it changes nothing.

    .. code-block:: yaml

        preflight:
          chatmail_preflight.passed:
            - ports:
                25/tcp: [postfix]
                53/udp: [unbound, systemd-resolved]
            - takeover: False
            - failhard: True

    ports
        For each port the daemons that may listen there, by the names of their systemd services.
    takeover
        Whether a Postfix, Dovecot, nginx or unbound configuration that was there before may be replaced, and services
        that hold the ports ended.
    addresses
        IP addresses that the host must have: daemons are told to listen there.
    relay
        False for a proxy, which replaces none.
    mailboxes
        For a relay ``mail_domain``, ``mailboxes_dir`` and ``rename_from``, arguments of
        ``chatmail_mailboxes.problems``.

    All reasons are reported together.
    """
    problems = __salt__["chatmail_preflight.problems"](ports, takeover, addresses, relay=relay)
    if mailboxes:
        problems += __salt__["chatmail_preflight.shortages"](mailboxes["mailboxes_dir"])
        problems += __salt__["chatmail_mailboxes.problems"](**mailboxes)
    if not problems:
        return {
            "name": name,
            "changes": {},
            "result": True,
            "comment": f"The host is fit to be a {'relay' if relay else 'proxy'}.",
        }
    lines = [f"This host is not fit to be a {'relay' if relay else 'proxy'}; nothing on it was changed."]
    return {
        "name": name,
        "changes": {},
        "result": False,
        "comment": "\n".join(lines + [f"- {problem}" for problem in problems]),
    }


def adopted(name):
    """
    Promise that ``/etc/chatmail/adopted`` notes that the host is the relay's, so that the configuration found on it
    later is the relay's own; what the relay is going to replace is kept aside below ``/var/backups/chatmail``.

    .. code-block:: yaml

        preflight-adopted:
          chatmail_preflight.adopted:
            - require:
              - chatmail_preflight: preflight
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "The host is the relay's."}
    if __salt__["chatmail_preflight.adopted"]():
        return ret
    foreign = list(__salt__["chatmail_preflight.foreign_configurations"]())
    if __opts__["test"]:
        ret["changes"] = {directory: {"old": "in use", "new": "kept aside"} for directory in foreign}
        ret["changes"]["adopted"] = {"old": False, "new": True}
        ret.update(result=None, comment="The host would become the relay's.")
        return ret
    try:
        kept = __salt__["chatmail_preflight.adopt"](foreign)
    except OSError as error:
        ret.update(result=False, comment=f"The old configuration could not be kept aside: {error}")
        return ret
    ret["changes"] = {directory: {"old": "in use", "new": f"kept aside in {copy}"} for directory, copy in kept.items()}
    ret["changes"]["adopted"] = {"old": False, "new": True}
    ret["comment"] = " ".join(
        ["The host is the relay's from now on."]
        + [f"{directory} is kept aside in {copy}." for directory, copy in kept.items()]
    )
    return ret


def ports_free(name, ports, takeover=False):
    """
    Promise that nobody but the relay listens on its ports: with ``takeover`` a service that does is stopped and
    disabled.

    .. code-block:: yaml

        preflight-ports-free:
          chatmail_preflight.ports_free:
            - ports:
                25/tcp: [postfix]
            - takeover: True

    ports
        For each port the daemons that may listen there, by the names of their systemd services.
    takeover
        Whether others may be ended.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "The relay's ports are free, or its own."}
    found = __salt__["chatmail_preflight.in_the_way"](ports)
    if not found:
        return ret
    changes = {one["unit"]: {"old": f"listens on {one['port']}", "new": "stopped and disabled"} for one in found}
    if not takeover:
        lines = [f"port {one['port']} is taken by {one['process']}; {one['remedy']}." for one in found]
        return ret | {"result": False, "comment": "\n".join(lines)}
    if __opts__["test"]:
        comment = f"{', '.join(changes)} would be stopped and disabled."
        return ret | {"result": None, "changes": changes, "comment": comment}
    try:
        stopped = __salt__["chatmail_preflight.free"](ports)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": str(error)}
    ret["changes"] = {unit: changes[unit] for unit in stopped if unit in changes}
    ret["comment"] = f"Stopped and disabled, as takeover is true: {', '.join(stopped)}."
    return ret
