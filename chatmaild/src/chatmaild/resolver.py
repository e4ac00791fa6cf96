"""Asking the relay's own resolver."""

from dataclasses import dataclass

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata

from .text_records import LookupFailed

PAYLOAD = 4096  # octets; on loopback nothing is too long for UDP


@dataclass(frozen=True)
class Answer:
    """The records of one name and type, none if there are none, and whether DNSSEC proves that."""

    records: tuple[dns.rdata.Rdata, ...]
    secure: bool


@dataclass(frozen=True)
class Resolver:
    """A validating resolver on this host, by default the relay's unbound; it has `seconds` for each answer.

    Its word that an answer is validated (the AD flag, RFC 4035 section 3.2.3) is good only because nobody can stand
    between it and us.
    """

    address: str = "127.0.0.1"
    port: int = 53
    seconds: float = 10

    async def look_up(self, name: dns.name.Name, rdtype: str) -> Answer:
        """Ask for records; aliases are followed.

        :raises LookupFailed: the resolver is silent, or answers with anything but records or their absence.
        """
        query = dns.message.make_query(name, rdtype, use_edns=True, payload=PAYLOAD)
        query.flags |= dns.flags.AD  # asks for that flag in the answer (RFC 6840 section 5.7)
        try:
            response, _ = await dns.asyncquery.udp_with_fallback(query, self.address, self.seconds, self.port)
            found = response.resolve_chaining().answer
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise LookupFailed(f"{rdtype} of {name}: {str(error) or type(error).__name__}") from error
        if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise LookupFailed(f"{rdtype} of {name}: {dns.rcode.to_text(response.rcode())}")
        return Answer(tuple(found or ()), bool(response.flags & dns.flags.AD))
