"""
Who holds more of the relay's places than others: connections by network, and what was refused for it.

Facts are the lines of ss(8) and of the journal; all here is pure. A network is a /24 of IPv4 or a /48 of IPv6.
"""

import ipaddress
import re
from collections import Counter

MINUTES = 10
# Of what a network may hold; from here on it is told.
HELD_PERCENT = 80
NETWORKS_TOLD = 3
PASSWORDS_MANY = 100

# Lines of Postfix's smtpd (anvil's limits), of chatmaild.network_share, of chatmaild.limits.budget, and of doveauth.
_BY_POSTFIX = re.compile(
    r"Connection (?:concurrency|rate) limit exceeded: \d+ from \S*\[([0-9a-f.:]+)\] for service (\S+)"
)
_BY_NETWORK = re.compile(r"Refused: (\d+) connections of (\S+) to port (\d+)")
_NO_MEMORY = re.compile(r"Refused: a message of .* found no memory")
_PASSWORDS = re.compile(r"passwords not looked at: (\d+)")
PATTERN = "limit exceeded|Refused: |passwords not looked at"
_SERVICES = {"smtp": 25, "submission": 587, "smtps": 465, "127.0.0.1:10465": 443}


def network_of(address):
    """Return the network of an IP address, or ``""`` for one of this host or none at all."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    found = getattr(found, "ipv4_mapped", None) or found
    if found.is_loopback:
        return ""
    return str(ipaddress.ip_network((found, 24 if found.version == 4 else 48), strict=False))


def places(settings):
    """
    Return the share of a network, how many connections to each port are its, and the setting on which that depends.

    Who asks for more is refused but on 143 and 993, where Dovecot ends the oldest connection without a login instead.
    """
    smtp, imap = settings["max_smtp_connections"], settings["max_imap_connections"]
    return {
        25: (max(smtp // 20, 5), "max_smtp_connections"),
        **dict.fromkeys((465, 587), (smtp // 5, "max_smtp_connections")),
        **dict.fromkeys((143, 993), (imap // 5, "max_imap_connections")),
        **dict.fromkeys((80, 443), (imap // 5 + 200, "max_imap_connections")),
    }


def held(lines, ports):
    """
    Count connections to ``ports`` in the ``lines`` of ``ss -Htn``, which end in local and remote address.

    Returns numbers by network, by port.
    """
    found = {port: Counter() for port in ports}
    for line in lines:
        fields = line.split()
        if len(fields) < 2 or not fields[-2].rpartition(":")[2].isdecimal():
            continue
        port = int(fields[-2].rpartition(":")[2])
        network = network_of(fields[-1].rpartition(":")[0].strip("[]").partition("%")[0])
        if port in found and network:
            found[port][network] += 1
    return {port: dict(networks) for port, networks in found.items() if networks}


def refused(lines):
    """
    Count refusals in ``lines`` of the journal.

    Returns a mapping: ``connections``, numbers by network, by port; ``memory``, large messages that found none;
    ``passwords`` that were not looked at.
    """
    connections, memory, passwords = {}, 0, 0
    for line in lines:
        if match := _BY_POSTFIX.search(line):
            port, network = _SERVICES.get(match[2], 25), network_of(match[1])
            connections.setdefault(port, Counter())[network] += 1
        elif match := _BY_NETWORK.search(line):
            connections.setdefault(int(match[3]), Counter())[match[2]] += int(match[1])
        elif _NO_MEMORY.search(line):
            memory += 1
        elif match := _PASSWORDS.search(line):
            passwords += int(match[1])
    return {
        "connections": {port: dict(networks) for port, networks in connections.items()},
        "memory": memory,
        "passwords": passwords,
    }


def crowded(facts, settings):
    """
    Return the networks that hold most of what they may, or were refused more.

    Each is a mapping of ``network``, ``port``, ``held``, ``allowed``, ``setting``, ``refused``; those refused most come
    first.
    """
    found = []
    for port, (allowed, setting) in places(settings).items():
        holding = facts["held"].get(port, {})
        denied = facts["refused"]["connections"].get(port, {})
        for network in sorted({*holding, *denied}):
            one = {
                "network": network,
                "port": port,
                "held": holding.get(network, 0),
                "allowed": allowed,
                "setting": setting,
                "refused": denied.get(network, 0),
            }
            if one["refused"] or one["held"] * 100 >= allowed * HELD_PERCENT:
                found.append(one)
    return sorted(found, key=lambda one: (-one["refused"], -one["held"]))


def sentence(one):
    """Return what is to be told of a network in `crowded`."""
    what = f"{one['network']} holds {one['held']} connections to port {one['port']}; its share is {one['allowed']}"
    return f"{what}, and {one['refused']} more were refused in {MINUTES} minutes" if one["refused"] else what


def block(network):
    """Return the command that shuts a network out and ends its connections, until a reboot."""
    family = "-6 " if ":" in network else ""
    return f"ip {family}route add blackhole {network}; ss -K dst {network}"
