"""States for the relay's DNS records; the work is in the execution module ``chatmail_dns``."""

from pathlib import Path

from salt.exceptions import CommandExecutionError


def __virtual__():
    if "chatmail_dns.check" in __salt__:
        return "chatmail_dns"
    return False, "the execution module chatmail_dns is missing: it needs Debian's python3-dnspython"


def _advice(lines):
    return [
        f"- {record}: {line['status']}, found {line['found']}. {line.get('remark', '')}\n{line.get('do', '')}".strip()
        for record, line in lines.items()
        if line["status"] not in ("ok", "differs")
    ]


def _comment(found):
    texts = [found["result"]]
    if found["success"] and (recommended := _advice(found["recommended"])):
        texts += ["Recommended:", *recommended]
    return "\n".join(texts + ([] if found["success"] else _advice(found["required"])))


def published(name, settings, start=None, initial=False, seconds=120):
    """
    All authoritative servers of the mail domain serve the records that the relay must have.

    .. code-block:: yaml

        dns-published:
          chatmail_dns.published:
            - settings: {{ settings | json }}

    Where the TSIG key file of the settings is on the machine on which the state runs (``salt-call --local``), records
    that are missing or wrong are published first. Under salt-ssh the file stays on the controller, where
    ``chatmail_dns.publish`` runs; the state then fails with what is missing and what to do.

    settings
        Those of ``map.jinja``.
    start
        Addresses of name servers with which to begin in place of the root servers.
    initial
        Only what a certificate authority needs to find, to be asked before it is.
    seconds
        How long to wait until what was published is served.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": ""}
    found = __salt__["chatmail_dns.check"](settings, start=start, initial=initial)
    ret["comment"] = _comment(found)
    if found["success"]:
        return ret
    server, key_file = settings["dns_update_server"], settings["dns_update_key_file"]
    if not (server and key_file and Path(key_file).exists()):
        ways = "publish them with `salt-ssh TARGET chatmail_dns.publish`" if server and key_file else "enter them"
        return ret | {"result": False, "comment": f"{ret['comment']}\nNext: {ways}, then apply again."}
    if __opts__["test"]:
        changes = {
            record: {"old": line["found"], "new": line["wanted"]}
            for record, line in found["required"].items()
            if line["status"] in ("missing", "wrong")
        }
        return ret | {"result": None, "changes": changes, "comment": f"The records would be published on {server}."}
    try:
        done = __salt__["chatmail_dns.publish"](settings, start=start, seconds=seconds)
    except CommandExecutionError as error:
        return ret | {"result": False, "comment": f"The records could not be published: {error}"}
    return ret | {"changes": done["published"], "comment": done["result"]}
