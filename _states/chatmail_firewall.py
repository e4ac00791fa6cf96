"""
The relay is reached from outside, and reaches others; the work is in the execution module ``chatmail_relay``.
"""

import dataclasses

from salt.exceptions import CommandExecutionError

import chatmail_outside
import chatmail_session

# Longer than the slowest port takes.
LOOK_S = 60


def __virtual__():
    return "chatmail_firewall"


def reachable(name, from_outside=True):
    """
    Promise that no firewall is in the relay's way: the machine on which salt-ssh runs has connected to each public port
    on which the relay listens, and the relay to port 25 of others. It changes nothing.

    .. code-block:: yaml

        outside-reachable:
          chatmail_firewall.reachable:
            - order: last

    from_outside
        False where the DNS may lead to another host for now, as in a move: then only port 25 of others is tried.

    What is closed is named with what to do, and fails where people notice it; where no salt-ssh is connected (by
    salt-call or a master) nobody looks from outside.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": ""}
    if __opts__["test"]:
        return ret | {"comment": "Nobody looks from outside in test mode."}
    says, findings = __salt__["chatmail_relay.outgoing"]()
    said = [says]
    try:
        if not from_outside:
            raise CommandExecutionError("the DNS may lead elsewhere (dns_check: false)")
        answer = chatmail_session.ask({"service": "look", "facts": __salt__["chatmail_relay.outside"]()}, LOOK_S)
        says, found = chatmail_outside.judge(answer["seen"])
        findings += map(dataclasses.asdict, found)
        said.append(says)
    except chatmail_session.NoController:
        said.append("not looked at from outside, which only salt-ssh does")
    except CommandExecutionError as error:
        said.append(f"not looked at from outside: {error}")
    ret["result"] = not any(one["level"] == "error" for one in findings)
    sentences = [f"{one['what']}: {one['do']}." for one in findings]
    looked = "; ".join(filter(None, said))
    ret["comment"] = "\n".join([f"{looked[:1].upper()}{looked[1:]}.", *sentences])
    return ret
