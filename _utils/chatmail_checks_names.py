"""
Checks of the relay's names: its certificate, as it lies on the host and as it is served, and its DNS records.
"""

import functools
import re
import socket

from chatmail_checks import Check, Finding
from chatmail_words import one_line

CERTIFICATE_WARNING_DAYS = 14
# A daemon that finds no certificate that it can use does not take its configuration.
_TLS = re.compile("certificate|ssl|private ?key", re.IGNORECASE)


def _names(relay):
    """What the certificate has to name."""
    domain = relay.settings["mail_domain_bare"]
    if relay.settings["tls_mode"] == "external" or relay.settings["ipv4_relay"]:
        return [domain]
    return [domain, f"www.{domain}", f"mta-sts.{domain}"]


def _collect_certificate(relay):
    problems = functools.partial(
        relay.call["chatmail_cert.problems"],
        relay.settings["tls_cert_path"],
        relay.settings["tls_key_path"],
        _names(relay),
    )
    broken = problems(chain=relay.settings["tls_mode"] == "external")
    return {
        "broken": broken,
        "soon": [] if broken else problems(days_left=CERTIFICATE_WARNING_DAYS),
        "days_left": relay.call["chatmail_cert.facts"](relay.settings["tls_cert_path"])["days_left"],
    }


def _judge_certificate(facts, relay):
    renew = {
        "self": f"{relay.command('state.apply chatmail')} makes a new one",
        "acme": f"{relay.command('state.apply chatmail')} asks for a new one, or says why there is none",
        "external": f"put a new pair at {relay.settings['tls_cert_path']} and {relay.settings['tls_key_path']}",
    }[relay.settings["tls_mode"]]
    if facts["broken"]:
        return "", [Finding("error", "certificate-broken", "; ".join(facts["broken"]), renew)]
    if facts["soon"]:
        return "", [
            Finding("warning", "certificate-ends-soon", f"{'; '.join(facts['soon'])}, and was not renewed", renew)
        ]
    return f"valid for {' '.join(_names(relay))}", []


def _collect_served(relay):
    return relay.call["chatmail_cert.show"]()


def _judge_served(facts, relay):
    served = facts["certificates"]
    over = [_place(place) for one in served if one["days_left"] < 0 for place in one["places"]]
    if over:
        what = f"a certificate that has ended is served, though there is a new one: {', '.join(over)}"
        return "", [Finding("error", "certificate-ended-served", what, "systemctl reload postfix dovecot nginx")]
    if len(served) > 1:
        said = "; ".join(f"{', '.join(map(_place, one['places']))}: {one['days_left']} days left" for one in served)
        what = f"the daemons do not serve the same certificate ({said})"
        return "", [Finding("warning", "certificates-differ", what, "systemctl reload postfix dovecot nginx")]
    says = [f"{one['days_left']} days left, on {len(one['places'])} ports" for one in served]
    return says[0] if says else "on 0 ports", []


def _place(place):
    return f"{place['port']} {place['daemon']}"


def _collect_names(relay):
    if relay.settings["ipv4_relay"] or not relay.settings["dns_check"]:
        return None
    return relay.call["chatmail_dns.check"](relay.settings)


def _judge_names(facts, relay):
    if facts is None:
        why = "an address needs no records" if relay.settings["ipv4_relay"] else "not wanted (dns_check: false)"
        return why, []
    required, recommended = facts["required"], facts["recommended"]
    bad = {name: line for name, line in required.items() if line["status"] in ("missing", "wrong", "unknown")}
    if required and all(line["status"] == "unknown" for line in required.values()):
        remark = next(iter(required.values())).get("remark", "")
        what = f"the name servers of {relay.settings['mail_domain_bare']} cannot be asked: {one_line(remark)}"
        return "", [Finding("error", "name-servers-mute", what, f"are they up? {relay.command('chatmail_dns.check')}")]
    by_hand = not (relay.settings["dns_update_server"] and relay.settings["dns_update_key_file"])
    next_step = (
        f"enter what {relay.command('chatmail_dns.check')} shows" if by_hand else relay.command("chatmail_dns.publish")
    )
    found = []
    for name, line in bad.items():
        remark = f": {one_line(line['remark'])}" if line.get("remark") else ""
        found.append(Finding("error", "record-wrong", f"the DNS record {name} is {line['status']}{remark}", next_step))
    lacking = [name for name, line in recommended.items() if line["status"] in ("missing", "wrong")]
    if lacking:
        what = f"recommended DNS records are missing or wrong: {', '.join(lacking)}"
        found.append(Finding("note", "recommended-records-wrong", what, next_step))
    return f"{len(required)} required and {len(recommended)} recommended records", found


def _collect_reverse(relay):
    """The names of the relay's public addresses (RFC 1035 section 3.5): lists by address, empty where there is none."""
    if relay.settings["ipv4_relay"] or not relay.settings["dns_check"]:
        return {}
    known = relay.call["chatmail_dns.facts"](relay.settings)
    return {address: _reverse(address) for address in [*(known["ipv4"] or ()), *(known["ipv6"] or ())]}


def _reverse(address):
    try:
        name, aliases, _ = socket.gethostbyaddr(address)
    except OSError:
        return []
    return [name.rstrip("."), *aliases]


def _judge_reverse(facts, relay):
    domain = relay.settings["mail_domain_bare"]
    other = {address: names for address, names in facts.items() if domain not in names}
    found = [
        Finding(
            "note",
            "reverse-name",
            f"the reverse name (PTR) of {address} is {', '.join(names) or 'missing'}: many mail servers mistrust that",
            f"set it to {domain} at the provider of the host; it is no record of the domain's zone",
        )
        for address, names in other.items()
    ]
    return ", ".join(facts) or "no public address is known", found


CERTIFICATE = Check(
    "certificate",
    _collect_certificate,
    _judge_certificate,
    figures=lambda facts: {"days_left": facts["days_left"]},
    needs=("clock",),
    explains=_TLS,
)
SERVED = Check(
    "served",
    _collect_served,
    _judge_served,
    figures=lambda facts: {"days_left": min((one["days_left"] for one in facts["certificates"]), default=None)},
    needs=("certificate",),
)
NAMES = Check(
    "names",
    _collect_names,
    _judge_names,
    figures=lambda facts: (facts and {kind: len(facts[kind]) for kind in ("required", "recommended")}) or {},
    slow=True,
)
REVERSE = Check("reverse", _collect_reverse, _judge_reverse, slow=True)
