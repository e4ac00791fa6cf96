"""Small authoritative name servers on loopback addresses: real sockets, zones given as text, and chosen faults."""

import errno
import random
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Mapping, Sequence

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsigkeyring
import dns.zone

SOA = "@ 60 IN SOA hidden.primary.invalid. hostmaster.invalid. 1 3600 600 86400 60\n"


def on_one_port(*starters: Callable) -> tuple[int, list]:
    """
    Start servers, one at each address, on one port, which is free because they could bind it.

    Each starter takes ``port=`` and returns a server. Returns the port and the servers. Ports are below those that the
    kernel gives to sockets of its own choice (ip(7), ip_local_port_range).
    """
    for port in random.sample(range(10000, 32000), 100):
        servers = []
        try:
            for start in starters:
                servers.append(start(port=port))
        except OSError as error:
            for server in servers:
                server.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return port, servers
    raise AssertionError("no port is free at all addresses")


class NameServer:
    """
    One server: UDP and TCP on ``address`` and ``port``, 0 for a free one, until :meth:`close`.

    Arguments: ``zones`` are zone files by apex, without their SOA record; ``fault`` is "" or "silent", "SERVFAIL",
    "once silent" for a server that answers each question only when it comes again, or "truncating" for one that says
    nothing by UDP but that the answer is too long for it (RFC 2181 section 9). ``signed`` are the zones of which it
    says, like a validating resolver, that its answers are authentic (AD). ``asked`` counts queries.
    """

    def __init__(self, address: str, port: int, zones: Mapping[str, str], fault: str = "", signed: Sequence[str] = ()):
        self.zones = {
            dns.name.from_text(apex): dns.zone.from_text(SOA + text, origin=apex, relativize=False, check_origin=False)
            for apex, text in zones.items()
        }
        self.fault = fault
        self.signed = [dns.name.from_text(apex) for apex in signed]
        self.asked = 0
        self._seen: set[tuple] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((address, port))
        except OSError:
            self._socket.close()
            raise
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._tcp = self._tcp_server(address, self.port) if fault == "truncating" else None

    def _tcp_server(self, address: str, port: int) -> socketserver.TCPServer:
        respond = self._respond

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                (length,) = struct.unpack("!H", self.rfile.read(2))
                answer = respond(dns.message.from_wire(self.rfile.read(length))).to_wire(max_size=0xFFFF)
                self.wfile.write(struct.pack("!H", len(answer)) + answer)

        server = socketserver.ThreadingTCPServer((address, port), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def close(self) -> None:
        if self._tcp:
            self._tcp.shutdown()
            self._tcp.server_close()
        # An empty datagram ends the thread, which waits for one; closing its socket would not.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            wire, peer = self._socket.recvfrom(4096)
            if not wire:
                return
            query = dns.message.from_wire(wire)
            self.asked += 1
            if response := self._respond(query):
                if self._tcp:
                    response.flags |= dns.flags.TC
                    for section in (response.answer, response.authority, response.additional):
                        section.clear()
                self._socket.sendto(response.to_wire(), peer)

    def _respond(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        response = dns.message.make_response(query)
        if self.fault == "silent":
            return None
        if self.fault == "once silent" and (question.name, question.rdtype) not in self._seen:
            self._seen.add((question.name, question.rdtype))
            return None
        apexes = [apex for apex in self.zones if question.name.is_subdomain(apex)]
        if self.fault == "SERVFAIL" or not apexes:
            response.set_rcode(dns.rcode.SERVFAIL if self.fault else dns.rcode.REFUSED)
            return response
        apex = max(apexes, key=len)
        _fill(response, self.zones[apex], apex, question.name, question.rdtype)
        if apex in self.signed:
            response.flags |= dns.flags.AD
        return response


def _fill(response, zone, apex, name, rdtype) -> None:
    """Answer as RFC 1034 section 4.3.2 says, without wildcards."""
    for length in range(len(apex) + 1, len(name) + 1):
        cut = name.split(length)[1]
        # What the parent says of a delegation is its own (RFC 4035 section 3.1.4.1).
        if (servers := zone.get_rrset(cut, "NS")) and not (rdtype == dns.rdatatype.DS and cut == name):
            response.authority.append(servers)
            glue = [zone.get_rrset(server.target, "A") for server in servers]
            response.additional += [rrset for rrset in glue if rrset]
            return
    response.flags |= dns.flags.AA
    while (alias := zone.get_rrset(name, "CNAME")) and alias not in response.answer:
        response.answer.append(alias)
        name = alias[0].target
        if not name.is_subdomain(apex):
            return
    if found := zone.get_rrset(name, rdtype):
        response.answer.append(found)
        return
    response.authority.append(zone.get_rrset(apex, "SOA"))
    if not any(other.is_subdomain(name) for other in zone.nodes):
        response.set_rcode(dns.rcode.NXDOMAIN)


class UpdateServer:
    """
    Takes dynamic updates (RFC 2136) over TCP on ``address`` and ``port``, for the zone ``apex`` of ``servers``.

    ``keys`` are TSIG secrets in base64 by name; an update that is signed with another one ends the connection.
    """

    def __init__(self, address: str, port: int, keys: Mapping[str, str], apex: str, servers: list[NameServer]):
        keyring = dns.tsigkeyring.from_text(dict(keys))
        zones = [server.zones[dns.name.from_text(apex)] for server in servers]

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                (length,) = struct.unpack("!H", self.rfile.read(2))
                try:
                    update = dns.message.from_wire(self.rfile.read(length), keyring=keyring)
                except dns.message.UnknownTSIGKey:
                    return
                for zone in zones:
                    _apply(zone, update)
                answer = dns.message.make_response(update).to_wire()
                self.wfile.write(struct.pack("!H", len(answer)) + answer)

        self._server = socketserver.TCPServer((address, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _apply(zone, update) -> None:
    """RFC 2136 section 3.4.2, but for the rules that protect SOA and NS."""
    for rrset in update.update:
        if rrset.deleting == dns.rdataclass.ANY:
            zone.delete_rdataset(rrset.name, rrset.rdtype)
        else:
            zone.find_rdataset(rrset.name, rrset.rdtype, create=True).update(rrset)
