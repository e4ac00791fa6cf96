"""
The check that names networks which hold more of the relay's places than others, and what was refused.
"""

import chatmail_attacks
from chatmail_checks import Check, Finding
from chatmail_services import run

_OTHERS_NAMED = 20


def _collect_attacks(relay):
    ports = chatmail_attacks.places(relay.settings)
    sockets = run(["ss", "-Htn", "state", "established", "state", "close-wait"]).stdout.splitlines()
    journal = ["journalctl", "--since", f"-{chatmail_attacks.MINUTES}min", "--output=cat", "--no-pager"]
    lines = run([*journal, "--lines=20000", f"--grep={chatmail_attacks.PATTERN}"]).stdout.splitlines()
    return {"held": chatmail_attacks.held(sockets, ports), "refused": chatmail_attacks.refused(lines)}


def _judge_attacks(facts, relay):
    found = []
    crowded = chatmail_attacks.crowded(facts, relay.settings)
    for one in crowded[: chatmail_attacks.NETWORKS_TOLD]:
        do = f"{chatmail_attacks.block(one['network'])}; if it is honest, raise {one['setting']} in the pillar"
        found.append(Finding("warning", "network-crowds", chatmail_attacks.sentence(one), do, data=one))
    if more := crowded[chatmail_attacks.NETWORKS_TOLD :]:
        names = ", ".join(one["network"] for one in more[:_OTHERS_NAMED])
        what = f"{len(more)} more networks hold most of what they may: {names}"
        found.append(Finding("warning", "networks-crowd", what, "ss -Htn state established", data={"networks": more}))
    refused, span = facts["refused"], f"in {chatmail_attacks.MINUTES} minutes"
    if refused["memory"]:
        what = f"{refused['memory']} large messages found no memory {span}, and are sent again later"
        do = "see whose they are: journalctl -u filtermail -u filtermail-incoming -g Refused -n 30"
        found.append(Finding("warning", "no-memory-for-messages", what, do, data={"messages": refused["memory"]}))
    if refused["passwords"] >= chatmail_attacks.PASSWORDS_MANY:
        what = (
            f"{refused['passwords']} passwords were not looked at {span}, after too many wrong ones: somebody guesses"
        )
        do = "nothing: owners get in all the same; journalctl -u doveauth -g passwords tells by which limit"
        found.append(Finding("warning", "passwords-guessed", what, do, data={"passwords": refused["passwords"]}))
    figures = _figures(facts)
    return f"{figures['connections']} connections from {figures['networks']} networks", found


def _figures(facts):
    held = facts["held"].values()
    return {
        "connections": sum(sum(networks.values()) for networks in held),
        "networks": len({network for networks in held for network in networks}),
        "passwords_refused": facts["refused"]["passwords"],
        "messages_refused": facts["refused"]["memory"],
    }


ATTACKS = Check("attacks", _collect_attacks, _judge_attacks, figures=_figures)
