"""
A host finds names in the DNS before, while and after it gets a resolver of its own.
"""


def __virtual__():
    if "chatmail_resolver.works" in __salt__:
        return True
    return False, "the execution module chatmail_resolver is missing"


def working(name, lookups, fallback):
    """
    Promise that the host finds names in the DNS: where it does not, ``/etc/resolv.conf`` names another name server from
    now on.

    .. code-block:: yaml

        unbound-bootstrap:
          chatmail_resolver.working:
            - lookups: [www.chat.example.org., debian.org.]
            - fallback: 9.9.9.9
            - failhard: True

    lookups
        Absolute names to look up; an answer for any one of them will do, also that it does not exist.
    fallback
        IP address of that other name server.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "The host finds names in the DNS."}
    if __salt__["chatmail_resolver.works"](lookups):
        return ret
    if __salt__["chatmail_resolver.named"](fallback):
        # On a relay it is unbound that is away, which the states after this start again.
        ret["comment"] = f"No name server answers, and /etc/resolv.conf names {fallback} already."
        return ret
    changes = {"/etc/resolv.conf": {"old": "no name server that answers", "new": f"nameserver {fallback}"}}
    if __opts__["test"]:
        ret.update(result=None, changes=changes, comment=f"The host would ask {fallback}.")
        return ret
    try:
        if __salt__["chatmail_resolver.fall_back"](fallback, lookups):
            ret.update(changes=changes, comment=f"Its name servers do not answer; the host asks {fallback} now.")
            return ret
    except OSError as error:
        ret.update(result=False, comment=f"/etc/resolv.conf cannot be written: {error}")
        return ret
    ret.update(
        result=False,
        comment="The host finds no names in the DNS, and nothing was changed: neither the name servers of "
        f"/etc/resolv.conf answer nor {fallback}. Is the network up, and does a firewall let it ask on port 53 (UDP "
        "and TCP)? Or name a server that answers as `fallback_resolver` below `chatmail:` in the pillar, then apply "
        "again.",
    )
    return ret


def serving(name, lookups):
    """
    Promise that a name server answers, before the host is made to depend on it; it changes nothing.

    .. code-block:: yaml

        unbound-answers:
          chatmail_resolver.serving:
            - name: 127.0.0.1
            - lookups: [www.chat.example.org., debian.org.]

    name
        IP address of the name server.
    lookups
        Absolute names to look up; an answer for any one of them will do, also that it does not exist.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"The name server at {name} answers."}
    if __opts__["test"]:
        # On a bare host neither it is there nor what is needed to ask it.
        ret["comment"] = f"The name server at {name} would be asked."
    elif not __salt__["chatmail_resolver.serves"](name, lookups):
        ret.update(
            result=False,
            comment=f"The name server at {name} does not answer, so /etc/resolv.conf stays as it is. unbound asks the "
            "authoritative servers by itself: does a firewall let it, on port 53 (UDP and TCP)? `journalctl -u "
            "unbound` on the host says more.",
        )
    return ret
