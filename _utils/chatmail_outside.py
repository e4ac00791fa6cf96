"""
A relay as others see it: each public port of its addresses is connected to, from another machine.

A firewall, of the host or of its provider, closes ports without a word to the host: only who connects from elsewhere
sees it. The host tells what to look at (``facts`` of ``chatmail_relay.outside``), and the machine on which salt-ssh
runs looks. TCP ports have to speak TLS with the relay's own certificate where they speak TLS; TURN (RFC 8656) has to
answer a binding request (RFC 8489).
"""

import dataclasses
import errno
import hashlib
import ipaddress
import itertools
import secrets
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

from chatmail_checks import LEVELS, Finding, worst
from chatmail_services import PUBLIC
from chatmail_words import one_line

# Salt has utils on Python's path while it loads one, not later. A host that judges what was seen may not have
# python3-cryptography yet; who looks has it.
try:
    import chatmail_x509
except ImportError:
    chatmail_x509 = None

PATIENCE_S = 5
MAX_ADDRESSES = 8
# Reached by whoever may connect to port 25 elsewhere; providers of homes and offices often let nobody.
ANY_MAIL_SERVER = ("gmail-smtp-in.l.google.com", 25)
STUN_COOKIE = 0x2112A442
STUN_REQUEST, STUN_SUCCESS = 0x0001, 0x0101
# After as many seconds a binding request is sent again (RFC 8489 section 6.2.1).
STUN_REPEATS_S = (0.5, 1, 2)
# This machine has no way there, and the relay none of the blame.
_NO_WAY = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
# What routers and firewalls answer in the host's place (RFC 1812 section 5.2.7.1).
_UNREACHABLE = {errno.EHOSTUNREACH, errno.EACCES}


@dataclasses.dataclass(frozen=True)
class Seen:
    """
    What one ``port`` (such as ``25/tcp``) of an ``address`` looks like: ``open``, ``closed``, ``other`` (it answers,
    but not as the relay does) or ``no-way`` (from here nobody gets there), and ``why``.
    """

    address: str
    port: str
    state: str
    why: str = ""


def stun_answers(address, port, repeats_s=STUN_REPEATS_S):
    """
    Raise ``OSError`` unless a STUN server answers a binding request (RFC 8489 section 2) at ``address`` and ``port``.
    """
    transaction = secrets.token_bytes(12)
    request = struct.pack("!HHI", STUN_REQUEST, 0, STUN_COOKIE) + transaction
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.connect((address, port))
        for seconds in repeats_s:
            client.send(request)
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                client.settimeout(left)
                try:
                    answer = client.recv(2048)
                except TimeoutError:
                    break
                if answer[:2] == struct.pack("!H", STUN_SUCCESS) and answer[8:20] == transaction:
                    return
    raise TimeoutError("no answer to a STUN binding request")


def _look_at(address, port, name, certificate):
    """What the relay ``name`` offers at one of ``PUBLIC``; ``certificate`` is the SHA-256 of the one that it serves."""
    number, _, transport = port.partition("/")
    try:
        if transport == "udp":
            stun_answers(address, int(number))
        elif PUBLIC[port].protocol == "http" or not certificate:
            socket.create_connection((address, int(number)), PATIENCE_S).close()
        else:
            before_tls = None if PUBLIC[port].protocol == "tls" else PUBLIC[port].protocol
            found = chatmail_x509.served(int(number), before_tls, name, PATIENCE_S, address)
            if hashlib.sha256(found).hexdigest() != certificate:
                return Seen(address, port, "other", "another certificate than the relay's")
    except ConnectionRefusedError:
        return Seen(address, port, "closed", "refused")
    except TimeoutError:
        return Seen(address, port, "closed", "no answer")
    except OSError as error:
        why = one_line(error.strerror or str(error))
        if error.errno in _UNREACHABLE:
            return Seen(address, port, "closed", why)
        return Seen(address, port, "no-way" if error.errno in _NO_WAY else "other", why)
    return Seen(address, port, "open")


def look(facts):
    """
    Connect to all ports of a relay from this machine, side by side; it takes as long as the slowest port.

    facts
        Mapping: ``name`` (text), ``addresses`` (list of text, of which the first few are looked at: a host says what
        it likes), ``ports`` (list, of which those of ``PUBLIC`` are looked at), and the
        ``certificate`` that is served (SHA-256 in hexadecimal digits, or None for whatever comes).

    Returns a list of :class:`Seen`, as mappings.
    """
    addresses = [str(ipaddress.ip_address(address)) for address in facts["addresses"][:MAX_ADDRESSES]]
    places = list(itertools.product(addresses, [port for port in PUBLIC if port in facts["ports"]]))
    with ThreadPoolExecutor(MAX_ADDRESSES * len(PUBLIC)) as pool:
        seen = list(pool.map(lambda place: _look_at(*place, facts["name"], facts["certificate"]), places))
    if _closed_by_own_network(seen) and not _reaches(ANY_MAIL_SERVER):
        why = "the network of the machine that looked lets nobody connect to port 25"
        seen = [Seen(one.address, one.port, "no-way", why) if one.port == "25/tcp" else one for one in seen]
    return list(map(dataclasses.asdict, seen))


def _closed_by_own_network(seen):
    """Whether port 25 alone gives no answer: that may be this machine's own network."""
    silent = {one.port for one in seen if one.state == "closed"}
    return silent == {"25/tcp"} and any(one.state == "open" for one in seen)


def _reaches(place):
    try:
        socket.create_connection(place, PATIENCE_S).close()
    except OSError:
        return False
    return True


def judge(seen):
    """
    Judge what :func:`look` returned: a line of text, and a list of ``Finding``.
    """
    if not seen:
        return "not tried: the DNS has no address of the relay, or nothing listens", []
    seen = [Seen(**one) for one in seen]
    by_address = {address: list(group) for address, group in itertools.groupby(seen, lambda one: one.address)}
    tried = {address: [one for one in group if one.state != "no-way"] for address, group in by_address.items()}
    reached = [address for address, group in tried.items() if any(one.state != "closed" for one in group)]
    found = []
    for address, group in tried.items():
        closed = [one for one in group if one.state == "closed"]
        if closed and address not in reached:
            level = "warning" if reached else "error"
            what = f"nothing answers at {address}, to where the DNS leads clients ({_ports(closed)})"
            found.append(Finding(level, "address-mute", what, _do(closed)))
        elif closed:
            effects = dict.fromkeys(PUBLIC[one.port].effect for one in closed)
            level = worst(PUBLIC[one.port].level for one in closed)
            what = f"closed from outside at {address}: {_ports(closed)} ({'; '.join(effects)})"
            found.append(Finding(level, "port-closed", what, _do(closed)))
        others = [one for one in group if one.state == "other"]
        for why in dict.fromkeys(one.why for one in others):
            ports = _ports(one for one in others if one.why == why)
            what = f"{address} does not answer as the relay does: {why} ({ports})"
            do = f"see that {address} leads to this host, and that nothing in between answers in its place"
            found.append(Finding("error", "port-of-another", what, do))
    untried = [one for one in seen if one.state == "no-way"]
    remarks = dict.fromkeys(
        f"not tried: {address}" if not tried[address] else f"not tried: port 25 of {address} ({one.why})"
        for address, one in ((one.address, one) for one in untried)
    )
    count = sum(one.state == "open" for one in seen)
    return "; ".join([f"{count} ports answer at {', '.join(reached) or 'no address'}", *remarks]), found


def added(found, seen):
    """Return the status ``found`` (what ``chatmail_relay.examine`` returns) with what :func:`look` returned in it."""
    says, findings = judge(seen)
    line = {
        "check": "outside",
        "level": worst(one.level for one in findings),
        "says": says,
        "figures": {"open": sum(one["state"] == "open" for one in seen), "ports": len(seen)},
    }
    told = [
        {"check": "outside", "level": one.level, "kind": one.kind, "what": one.what, "do": one.do} for one in findings
    ]
    findings = sorted([*found["findings"], *told], key=lambda one: -LEVELS.index(one["level"]))
    level = worst(one["level"] for one in findings)
    return found | {"level": level, "checks": [*found["checks"], line], "findings": findings}


def _ports(seen):
    """Ports by transport, such as ``TCP 25 143, UDP 3478``."""
    kinds = itertools.groupby(sorted(seen, key=lambda one: one.port.partition("/")[2]), lambda one: one.port[-3:])
    return ", ".join(
        f"{kind.upper()} {' '.join(sorted((one.port.partition('/')[0] for one in group), key=int))}"
        for kind, group in kinds
    )


def _do(closed):
    return f"let {_ports(closed)} in, in the firewall of your provider and on the host (nft list ruleset)"
