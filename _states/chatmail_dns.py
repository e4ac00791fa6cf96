"""States for the relay's DNS records; the work is in the execution module ``chatmail_dns``."""

from salt.exceptions import CommandExecutionError


def __virtual__():
    return "chatmail_dns"


def published(name, settings, initial=False, seconds=120):
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
        Only what a certificate authority needs to find, to be asked before it is.
    seconds
        How long to wait until what was published is served.
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
    ret["comment"] = found["result"] if right else found["report"]
    if ret["changes"]:
        ret["comment"] = f"Published: {', '.join(ret['changes'])}.\n{ret['comment']}"
    server = settings["dns_update_server"] if settings["dns_update_key_file"] else None
    if __opts__["test"] and server and found["unpublished"]:
        changes = {
            record: {"old": lines[record]["found"], "new": lines[record]["wanted"]} for record in found["unpublished"]
        }
        return ret | {"result": None, "changes": changes, "comment": f"The records would be published on {server}."}
    if not found["success"]:
        ret["result"] = False
        ret["comment"] += "\nThen apply again: it goes on from here."
    return ret
