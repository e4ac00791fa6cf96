"""
Check of the network between the relay and others: mail leaves by port 25, which many providers keep closed.
"""

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

from chatmail_checks import Check, Finding
from chatmail_services import POSTFIX_UNITS
from chatmail_words import one_line

PATIENCE_S = 5
# A mail domain whose first servers are all away is not asked for its last ones.
SERVERS_PER_DOMAIN = 2


def _answers(name, kind):
    """The records of a name, or none."""
    # Debian's python3-dnspython is there from the first apply on.
    import dns.exception
    import dns.resolver

    with contextlib.suppress(dns.exception.DNSException):
        return list(dns.resolver.resolve(name, kind, lifetime=PATIENCE_S))
    return []


def addresses_of(name):
    """
    Return the addresses (list of text) of ``name`` in the DNS, or the IPv4 address that it is; ``/etc/hosts``, which
    often has the host's own name, is not asked.
    """
    with contextlib.suppress(OSError):
        socket.inet_pton(socket.AF_INET, name)
        return [name]
    return [record.address for kind in ("A", "AAAA") for record in _answers(name, kind)]


def _mail_servers(domain):
    """Where mail for the domain goes (RFC 5321 section 5.1)."""
    exchangers = sorted(_answers(domain, "MX"), key=lambda record: record.preference)
    return [record.exchange.to_text(omit_final_dot=True) for record in exchangers][:SERVERS_PER_DOMAIN] or [domain]


def _connects(names, port):
    """Whether one of the ``names`` answers at ``port``, and if not, why; ``""`` where none has an address."""
    why = ""
    for address in (address for name in names for address in addresses_of(name)):
        try:
            socket.create_connection((address, port), PATIENCE_S).close()
        except OSError as error:
            # What IPv4 says is of more use than that there is no IPv6.
            why = why if ":" in address and why else one_line(error.strerror or str(error))
        else:
            return True, ""
    return False, why


def _try(domain):
    open_25, why = _connects(_mail_servers(domain), 25)
    return {"domain": domain, "port_25": open_25, "why": why, "port_443": open_25 or _connects([domain], 443)[0]}


def _collect(relay):
    domains = [name for name in relay.settings["port_25_targets"] if name != relay.settings["mail_domain_bare"]]
    with ThreadPoolExecutor(max(1, len(domains))) as pool:
        return list(pool.map(_try, domains))


def _judge(facts, relay):
    reached = [one["domain"] for one in facts if one["port_25"]]
    if reached or not facts:
        return f"port 25 of {', '.join(reached)} is reached" if facts else "not tried (port_25_targets: [])", []
    if not any(one["why"] for one in facts):
        # Where that is this host's fault, the resolver's check tells it.
        return "not tried: no address is found of whom port_25_targets names", []
    said = "; ".join(f"{one['domain']}: {one['why'] or 'it has no address'}" for one in facts)
    if not any(one["port_443"] for one in facts):
        what = f"whether mail can leave by port 25 is not known, for nobody who was tried can be reached ({said})"
        do = "try again later, or name other mail domains in the setting port_25_targets"
        return "", [Finding("note", "port-25-unknown", what, do)]
    what = (
        "mail leaves to those alone that take it by HTTPS: port 25 of other mail servers is closed to this host, "
        f"their port 443 is not ({said})"
    )
    do = "ask the provider of the host to let connections to port 25 out; see that no firewall on the host stops them"
    # Relays reach each other without it.
    return "", [Finding("warning", "port-25-closed", what, do)]


OUTGOING = Check(
    "outgoing",
    _collect,
    _judge,
    needs=("resolver",),
    # Where unbound is down the resolver is not looked at.
    units=frozenset(POSTFIX_UNITS) | {"unbound.service"},
    slow=True,
)
