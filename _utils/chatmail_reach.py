"""
How mail goes to other relays, in words; what is known is ``chatmaild.reach``'s.

No function here reads or writes anything.
"""

import dataclasses
import re

from chatmail_checks import Finding, worst
from chatmail_errors import CommandExecutionError
from chatmail_words import age_text, one_line

# What stands after the @ of a recipient: a host name, or a domain literal (RFC 5321 section 4.1.3).
_LABEL = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
DESTINATION = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}(\.{_LABEL})*|\[(ipv6:)?[0-9a-f.:]+\])")
# Of ``chatmaild.outbound.destinations.Way``.
WAYS = {"https": "HTTPS", "smtp": "SMTP", "either": "SMTP, where that cannot connect HTTPS"}


def destination(argument):
    """
    Return the destination that an operator means (text, in lower case), such as ``example.org``.

    Salt reads ``[192.0.2.7]`` on its command line as a list. Raises ``CommandExecutionError`` for anything else.
    """
    text = f"[{argument[0]}]" if isinstance(argument, list) and len(argument) == 1 else str(argument)
    if not DESTINATION.fullmatch(text.lower()):
        raise CommandExecutionError(
            f"{text!r} is no destination; allowed is what stands after the @ of addresses, such as example.org "
            "or [192.0.2.7]"
        )
    return text.lower()


def way_text(known):
    """
    Return by which way mail goes (text, such as ``SMTP``).

    known
        A mapping with ``way``, ``seconds`` and ``why_not_https``, or None where chatmail-transport does not answer.
    """
    return WAYS[known["way"]] if known else "SMTP"


def why_text(known):
    """Return why mail goes by that way (text); see :func:`way_text`."""
    if not known:
        return "chatmail-transport does not answer"
    if known["way"] == "https":
        return f"it has said so; that is believed for {age_text(known['seconds'])} more"
    if known["way"] == "smtp":
        return f"by HTTPS: {known['why_not_https']}; that is believed for {age_text(known['seconds'])} more"
    return "whether it takes HTTPS is found out with the next message"


def reason_text(reason, known):
    """Return why mail waits (text): what the other side said last, and why it does not go by HTTPS."""
    why = known["why_not_https"] if known else why_text(known)
    return f"{reason} (by HTTPS: {why})" if why and why not in reason else reason


def _servers(facts, relay):
    servers = facts["servers"]
    if facts["error"]:
        if facts["is_final"]:
            do = "is the domain spelled right? Mail to it returns to its senders"
        else:
            do = f"try again later; {relay.command('chatmail_relay.status')} says whether the resolver works"
        return "", [Finding("error", "no-mail-server", facts["error"], do)]
    return "; ".join(f"{one['name']} ({', '.join(one['addresses']) or 'no address'})" for one in servers), []


def _policy(facts):
    found = [
        Finding("error", "policy-unknown", f"mail waits, for it cannot be told: {problem}", "try again later")
        for problem in facts["problems"]
    ]
    if facts["dane"]:
        what = f"mail to {facts['domain']} goes by DANE; whether its keys are those in the DNS was not tried"
        found.append(Finding("note", "dane-not-tried", what, f"posttls-finger -l dane-only {facts['domain']}"))
    forbidden = [one["name"] for one in facts["servers"] if not one["is_allowed"]]
    if forbidden:
        what = f"the MTA-STS policy of {facts['domain']} does not allow its mail servers {', '.join(forbidden)}"
        do = f"its operator has to name them at https://mta-sts.{facts['domain']}/.well-known/mta-sts.txt"
        found.append(Finding("warning", "server-forbidden", what, do))
    if facts["mta_sts"] is not None:
        return f"MTA-STS allows {', '.join(facts['mta_sts'])}", found
    return "DANE" if facts["dane"] else "none of its own; see the certificates", found


def _smtp_finding(one, level, relay):
    """What is wrong with SMTP at a mail server, or None."""
    name, failed, said = one["name"], one["smtp"]["failed"], one["smtp"]["said"]
    if not failed:
        return None
    what, do = {
        "connect": (
            f"port 25 of {name} cannot be reached: {said}",
            f"does {relay.command('chatmail_relay.status')} say that port 25 is closed to this host? If not, ask the "
            f"operator of {name} to open it",
        ),
        "greeting": (
            f"{name} does not want to speak SMTP with this relay: {said}",
            "ask its operator; is an address of this relay on a list of blocked ones, or without a reverse name?",
        ),
        "tls": (f"{name} does not offer TLS as mail needs it: {said}", "its operator has to offer TLS 1.2 or later"),
        "certificate": (
            f"the certificate of {name} at port 25 is not verified: {said}",
            f"its operator needs a certificate for {name} by a public authority",
        ),
        "recipient": (
            f"{name} refuses mail to its postmaster: {said}",
            "what it says has the reason; its operator has to take this relay's mail",
        ),
    }[failed]
    return Finding(level, f"smtp-{failed}", what, do)


def _smtp_says(one):
    smtp = one["smtp"]
    return "" if smtp["failed"] else f"{one['name']} takes mail ({smtp['tls']}): {smtp['said']}"


def _https_says(one):
    https = one["https"]
    return (
        f"{one['name']} takes mail" if https["is_relay"] else f"{one['name']} takes no mail by HTTPS: {https['said']}"
    )


def judge(facts, relay, unsigned=""):
    """
    Judge what ``chatmaild.reach`` has found out about a domain.

    facts
        Mapping, as that prints it.
    relay
        This one, a ``Relay`` of ``chatmail_checks``.
    unsigned
        Why this relay does not sign its mail (text), "" where it does.

    Returns lines (``check``, ``level``, ``says``, ``figures``) and findings (``check``, ``level``, ``kind``, ``what``,
    ``do``), two lists, as a status has them.
    """
    usable = [one for one in facts["servers"] if one["is_allowed"]]
    by_smtp = [one for one in usable if not one["smtp"]["failed"]]
    by_https = [one for one in usable if one["https"]["is_relay"]]
    # One way is enough.
    smtp = [_smtp_finding(one, "warning" if by_https or by_smtp else "error", relay) for one in usable]
    signing, way = [], []
    if unsigned:
        what = f"mail is not signed, so others refuse it: {unsigned}"
        signing = [Finding("error", "not-signed", what, relay.command("state.apply chatmail.opendkim"))]
    if facts["servers"] and not (by_smtp or by_https):
        what = f"{facts['domain']} cannot be reached: its mail waits, for two days at most"
        way = [Finding("error", "no-way", what, "one of SMTP and HTTPS is enough; below is what is wrong with each")]
    parts = [
        ("servers", *_servers(facts, relay)),
        ("policy", *_policy(facts)),
        ("way", f"by {way_text(facts['known'])}: {why_text(facts['known'])}", way),
        ("smtp", "; ".join(filter(None, map(_smtp_says, usable))), [one for one in smtp if one]),
        ("https", "; ".join(map(_https_says, usable)), []),
        ("signature", "mail is signed", signing),
    ]
    if facts["error"]:
        parts = parts[:1]
    lines = [
        {"check": name, "level": worst(one.level for one in found), "says": one_line(says, 1000), "figures": {}}
        for name, says, found in parts
    ]
    told = [
        {"check": name}
        | {key: value for key, value in dataclasses.asdict(one).items() if key in ("level", "kind", "what", "do")}
        for name, _, found in parts
        for one in found
    ]
    return lines, told
