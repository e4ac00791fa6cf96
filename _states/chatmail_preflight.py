"""
Refuses a host that is not fit to be a relay, before anything on it is touched.
"""


def __virtual__():
    if "chatmail_preflight.problems" in __salt__:
        return True
    return False, "the execution module chatmail_preflight is missing"


def passed(name, ports, takeover=False):
    """
    Promise that the host runs Debian 12, that the relay's ports are free or the relay's, and that no configuration
    of somebody else is lost.

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
        Replace a Postfix, Dovecot, nginx or unbound configuration that was there before; it is kept aside below
        ``/var/backups/chatmail``.

    All reasons are reported at once. The first time a host passes, ``/etc/chatmail/adopted`` notes it; from then on
    the configuration found there is the relay's own.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "The host is fit to be a relay."}
    problems, to_keep = __salt__["chatmail_preflight.problems"](ports, takeover)
    if problems:
        lines = ["This host is not fit to be a relay; nothing on it was changed."]
        ret.update(result=False, comment="\n".join(lines + [f"- {problem}" for problem in problems]))
        return ret
    if __salt__["chatmail_preflight.adopted"]():
        return ret
    if __opts__["test"]:
        ret["changes"] = {directory: {"old": "in use", "new": "kept aside"} for directory in to_keep}
        ret["changes"]["adopted"] = {"old": False, "new": True}
        ret.update(result=None, comment="The host is fit to be a relay and would become one.")
        return ret
    try:
        kept = __salt__["chatmail_preflight.adopt"](to_keep)
    except OSError as error:
        ret.update(result=False, comment=f"The old configuration could not be kept aside: {error}")
        return ret
    ret["changes"] = {directory: {"old": "in use", "new": f"kept aside in {copy}"} for directory, copy in kept.items()}
    ret["changes"]["adopted"] = {"old": False, "new": True}
    if kept:
        ret["comment"] += " " + "; ".join(f"{directory} is kept aside in {copy}" for directory, copy in kept.items())
    return ret
