"""
Asking the authoritative servers of a domain, found by following the delegation from the root (RFC 1034 section 5.3.3).

No cache is asked, and of a hidden primary nothing needs to be known. dnspython's ``zone_for_name`` asks a resolver and
returns a name alone; here each server of the zone is asked, those that it names itself and those that its parent names.
"""

import dataclasses
import re
import time
from concurrent.futures import ThreadPoolExecutor
from threading import RLock

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype

from chatmail_records import Answer

# Some of the root servers, https://www.iana.org/domains/root/servers; any one of them is enough.
ROOT_SERVERS = (
    "193.0.14.129",
    "192.5.5.241",
    "2001:7fd::1",
    "199.7.83.42",
    "2001:500:9f::42",
    "202.12.27.33",
)
# A server gets as many queries as there are times here before it counts as silent.
PATIENCE_S = (1.0, 2.0, 3.0)
# Referrals and aliases that are followed for one name (RFC 1034 section 5.2.2 asks for a limit).
MAX_STEPS = 16
MAX_SERVERS = 16
# What does not fragment on the way: https://www.dnsflagday.net/2020/
UDP_PAYLOAD = 1232


class Unanswered(Exception):
    """No answer; its text is a predicate for the server or name: "does not answer"."""


@dataclasses.dataclass(frozen=True)
class Server:
    """An address of a name server."""

    name: str
    address: str

    def __str__(self):
        return f"{self.name} ({self.address})" if self.name else self.address


@dataclasses.dataclass(frozen=True)
class Zone:
    """A zone's name (text, absolute) and its servers, as its parent and the zone itself name them."""

    apex: str
    servers: tuple


def _printable(data):
    """``data`` (bytes) as text, with the escapes of RFC 1035 section 5.1: nothing in it steers a terminal."""
    text = "".join(chr(byte) if 32 <= byte < 127 else f"\0{byte:03}" for byte in data)
    return re.sub(r'(["\\])', r"\\\1", text).replace("\0", "\\")


def _values(rrset):
    """The data of ``rrset`` as ``Record`` has it, sorted."""
    if rrset.rdtype == dns.rdatatype.TXT:
        return tuple(sorted(_printable(b"".join(rdata.strings)) for rdata in rrset))
    if rrset.rdtype in (dns.rdatatype.MX, dns.rdatatype.SRV):
        return tuple(sorted(rdata.to_text().lower() for rdata in rrset))
    return tuple(sorted(rdata.to_text() for rdata in rrset))


class Walk:
    """
    Look-ups at authoritative servers, from ``start`` (addresses of root servers) down; what was learned is kept.

    All together end after ``seconds``. A server that was silent for all of ``PATIENCE_S`` is not asked again.
    """

    def __init__(self, start, seconds, port):
        self._end = time.monotonic() + seconds
        self._port = port
        self._slow = set()
        self._silent = {}
        self._zones = {dns.name.root: Zone(".", tuple(Server("", address) for address in start))}
        self._complete = set()
        # One walk at a time: the next one finds what this one has learned.
        self._walking = RLock()

    def _ask(self, server, name, rdtype, patience=None):
        """
        Ask one server one question and return its response (``dns.message.Message``).

        Raises ``Unanswered`` where it stays silent for the times in ``patience`` (s; by default PATIENCE_S), cannot
        be reached, or refuses.
        """
        if server.address in self._silent:
            raise Unanswered(self._silent[server.address])
        query = dns.message.make_query(name, rdtype, use_edns=0, payload=UDP_PAYLOAD)
        query.flags &= ~dns.flags.RD
        problem = "was not asked: time is up"
        for seconds in patience or PATIENCE_S:
            timeout = min(seconds, self._end - time.monotonic())
            if timeout <= 0:
                break
            try:
                response, _ = dns.query.udp_with_fallback(
                    query, server.address, timeout, self._port, ignore_unexpected=True
                )
            except dns.exception.Timeout:
                problem = "does not answer"
                self._slow.add(server.address)
                continue
            except OSError as error:
                problem = f"cannot be reached: {error.strerror or error}"
                break
            except (dns.exception.DNSException, EOFError) as error:
                problem = f"answers nonsense: {error}"
                continue
            if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return response
            problem = f"answers {dns.rcode.to_text(response.rcode())}"
        if problem == "does not answer" and patience is None:
            self._silent[server.address] = problem
        raise Unanswered(problem)

    def _quick_first(self, servers):
        return sorted(servers, key=lambda server: server.address in self._slow)

    def _first(self, servers, name, rdtype):
        """The first useful response of ``servers``, and who gave it; each is asked briefly, then with more patience."""
        problems = {}
        for patience in PATIENCE_S[:2]:
            for server in self._quick_first(servers):
                try:
                    response = self._ask(server, name, rdtype, (patience,))
                except Unanswered as error:
                    problems[server] = f"{server} {error}"
                else:
                    if response.flags & dns.flags.AA or response.authority:
                        return response, server
                    problems[server] = f"{server} is not responsible for {name}"
        raise Unanswered("; ".join(problems.values()) or "none has an address")

    def _servers(self, names, additional, depth):
        """The servers ``names`` with their addresses: from ``additional`` (RRsets), or looked up."""
        glue = {}
        for rrset in additional:
            if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
                glue.setdefault(rrset.name, []).extend(_values(rrset))
        servers = []
        for name in sorted(names)[:MAX_SERVERS]:
            found = glue.get(name) or self.addresses(name, depth + 1)
            servers += [Server(name.to_text().lower(), address) for address in found]
        return tuple(servers[:MAX_SERVERS])

    def addresses(self, name, depth=0):
        """The published addresses of ``name`` (list of text), none where it has none or nobody answers."""
        try:
            return [value for rdtype in ("A", "AAAA") for value in self.lookup(name, rdtype, depth).values]
        except Unanswered:
            return []

    def zone(self, name, depth=0):
        """
        Return the ``Zone`` that holds ``name`` (``dns.name.Name``), by following the delegation.

        Raises ``Unanswered`` where it leads to no server that answers.
        """
        with self._walking:
            known = [apex for apex in self._zones if name.is_subdomain(apex)]
            apex = max(known, key=len)
            for _ in range(MAX_STEPS - depth):
                zone = self._zones[apex]
                try:
                    response, server = self._first(zone.servers, name, "SOA")
                except Unanswered as error:
                    raise Unanswered(f"of the servers of {zone.apex} none answers: {error}") from error
                sets = {rrset.rdtype: rrset for rrset in response.authority + response.answer}
                if response.flags & dns.flags.AA:
                    soa = sets.get(dns.rdatatype.SOA)
                    # A server may serve the child beside the parent, and then does not refer to it.
                    own = soa.name if soa is not None and name.is_subdomain(soa.name) else apex
                    if own not in self._complete:
                        self._complete.add(own)
                        self._zones[own] = self._with_own_servers(own, zone, server, depth)
                    return self._zones[own]
                referral = sets.get(dns.rdatatype.NS)
                if (
                    referral is None
                    or referral.name == apex
                    or not (name.is_subdomain(referral.name) and referral.name.is_subdomain(apex))
                ):
                    raise Unanswered(f"{server} neither knows {name} nor who does")
                names = {rdata.target for rdata in referral}
                apex = referral.name
                self._zones[apex] = Zone(apex.to_text().lower(), self._servers(names, response.additional, depth))
            raise Unanswered("the delegation leads nowhere")

    def _with_own_servers(self, apex, delegated, server, depth):
        """The zone ``apex`` with the servers that it names itself (asked at ``server``) beside those of its parent."""
        text = apex.to_text().lower()
        parents = delegated.servers if delegated.apex == text else ()
        self._zones[apex] = Zone(text, parents or (server,))
        try:
            response = self._ask(server, apex, "NS")
        except Unanswered:
            return self._zones[apex]
        names = {rdata.target for rrset in response.answer if rrset.rdtype == dns.rdatatype.NS for rdata in rrset}
        own = self._servers(names, response.additional, depth)
        addresses = {one.address for one in own}
        servers = own + tuple(one for one in parents if one.address not in addresses)
        return Zone(text, servers[:MAX_SERVERS] or (server,))

    def _answer(self, server, name, rdtype, depth):
        """What ``server`` says to one question, aliases followed to other zones' servers (RFC 1034 section 5.3.3)."""
        try:
            response = self._ask(server, name, rdtype)
        except Unanswered as error:
            return Answer(problem=str(error))
        if not response.flags & dns.flags.AA:
            return Answer(problem="is not responsible for the zone that it should serve")
        try:
            chain = response.resolve_chaining()
        except dns.message.AnswerForNXDOMAIN:
            return Answer(problem="says both that the name exists and that it does not")
        except (dns.message.ChainTooLong, dns.message.NotQueryResponse) as error:
            return Answer(problem=f"answers nonsense: {error}")
        aliases = tuple(rdata.target.to_text().lower() for rrset in chain.cnames for rdata in rrset)
        if chain.answer is not None:
            return Answer(_values(chain.answer), aliases)
        if not aliases:
            return Answer()
        try:
            rest = self.lookup(chain.canonical_name, rdtype, depth + 1)
        except Unanswered as error:
            return Answer(problem=f"leads to {aliases[-1]}, but {error}")
        return Answer(rest.values, aliases + rest.aliases)

    def everywhere(self, name, rdtype):
        """Ask all servers of the zone of ``name`` at the same time. Returns ``Answer`` by ``Server``."""
        servers = self.zone(name).servers
        with ThreadPoolExecutor(len(servers)) as pool:
            answers = pool.map(lambda server: self._answer(server, name, rdtype, 0), servers)
            return dict(zip(servers, answers, strict=True))

    def lookup(self, name, rdtype, depth=0):
        """The ``Answer`` of any server of the zone of ``name``. Raises ``Unanswered`` if none has one."""
        if depth >= MAX_STEPS:
            raise Unanswered("there are too many aliases")
        problems = []
        for server in self._quick_first(self.zone(name, depth).servers):
            answer = self._answer(server, name, rdtype, depth)
            if not answer.problem:
                return answer
            problems.append(f"{server} {answer.problem}")
        raise Unanswered("; ".join(problems))

    def signed(self, name):
        """
        Whether a chain of signatures can lead to ``name``: each parent, up to the root, has a DS record for the zone
        below it (RFC 4035 section 5). The signatures are for resolvers to verify.
        """
        apex = self.zone(name).apex
        while (child := dns.name.from_text(apex)) != dns.name.root:
            parent = self.zone(child.parent())
            response, _ = self._first(parent.servers, child, "DS")
            if not any(rrset.rdtype == dns.rdatatype.DS for rrset in response.answer):
                return False
            apex = parent.apex
        return True
