"""States for the relay's DNS records; the work is in the execution module ``chatmail_dns``."""

from salt.exceptions import CommandExecutionError

from chatmail_words import records_text


def __virtual__():
    return "chatmail_dns"


def published(name, settings, initial=False, seconds=120, reached=()):
    """
    All authoritative servers of the mail domain serve the records that the relay must have.

    .. code-block:: yaml

        dns-published:
          chatmail_dns.published:
            - settings: {{ settings | json }}

    Where the settings name a server and a TSIG key file, records that are missing or wrong are published first: by
    this host if it has the file, else by the salt-ssh that applies the state. Without, the state fails with what to
    enter.

    settings
        Those of ``map.jinja``.
    initial
        Miss only what a certificate authority needs to find, to be asked before it is; all that is missing is told.
    seconds
        How long to wait until what was published is served.
    reached
        Addresses by which the controller came (list of text), for a host that does not know its own.

    Recommended records that are missing are a warning.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": ""}
    if "chatmail_dns.check" not in __salt__:
        missing = "python3-dnspython, which asks name servers, is not installed"
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"The records would be looked at; {missing} yet."}
        return ret | {"result": False, "comment": f"{missing}. An apply of chatmail.system installs it."}
    try:
        if __opts__["test"]:
            done = {"published": {}, "check": __salt__["chatmail_dns.check"](settings, initial=initial)}
        else:
            done = __salt__["chatmail_dns.publish"](settings, initial=initial, seconds=seconds)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": f"The records could not be published: {error}"}
    found, ret["changes"] = done["check"], done["published"]
    lines = found["required"] | found["recommended"]
    right = all(line["status"] in ("ok", "differs") for line in lines.values())
    ret["comment"] = found["result"] if right else _not_right(found, settings)
    if ret["changes"]:
        ret["comment"] = f"Published: {', '.join(ret['changes'])}.\n{ret['comment']}"
    server = settings["dns_update_server"] if settings["dns_update_key_file"] else None
    if __opts__["test"] and server and found["unpublished"]:
        changes = {
            record: {"old": lines[record]["found"], "new": lines[record]["wanted"]} for record in found["unpublished"]
        }
        return ret | {"result": None, "changes": changes, "comment": f"The records would be published on {server}."}
    lacking = [record for record, line in found["recommended"].items() if line["status"] in ("missing", "wrong")]
    if lacking and found["success"] and not initial:
        ret["warnings"] = [
            f"Recommended DNS records are missing or wrong: {', '.join(lacking)}. ./relay dns shows them."
        ]
    if not found["success"]:
        ret["result"] = False
        known = __salt__["chatmail_dns.facts"](settings)
        ret["comment"] += _unknown_addresses(settings, known, reached) + "\nThen apply again: it goes on from here."
    return ret


def _not_right(found, settings):
    """What ``check`` reports, without the records that are right."""
    publishable = bool(settings["dns_update_server"] and settings["dns_update_key_file"])
    wrong = [
        [{"record": record} | line for record, line in found[kind].items() if line["status"] not in ("ok", "differs")]
        for kind in ("required", "recommended")
    ]
    return f"{records_text(*wrong, publishable)}\n\n{found['result']}"


def _unknown_addresses(settings, known, reached):
    """What to do where the host is behind address translation."""
    if known["ipv4"] is not None or known["ipv6"]:
        return ""
    domain = settings["mail_domain_bare"]
    text = (
        "\nThe host has no public address of its own: it is behind address translation. Name the address at which "
        f"people reach it in the pillar, as public_addresses, and enter it as the A (or AAAA) record of {domain}."
    )
    if not reached:
        return text
    records = "\n".join(f"{domain}. 3600 IN {'AAAA' if ':' in one else 'A'} {one}" for one in reached)
    return f"{text}\nssh reached it at {', '.join(reached)}. If people do, too:\npublic_addresses: {reached}\n{records}"
