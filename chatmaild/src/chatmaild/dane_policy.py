"""Tells Postfix to which domains mail goes by DANE (RFC 7672) alone: all their mail servers have signed TLSA records.
And tells our other daemons, which have no memory left for a library of the DNS, what else they need of it.

Postfix asks over TCP by its socketmap protocol (socketmap_table(5)), with the domain of a message's next hop, and
checks the certificate itself. For every other domain the answer is ``NOTFOUND``, and Postfix goes by its next table.
What cannot be found out is ``TEMP``: then the message waits (RFC 7672 section 2.1.1).
"""

import asyncio
import dataclasses
import functools
import re

import dns.exception
import dns.name
import dns.rdata

from . import service, socketmap, text_records
from .outbound.lookup import mail_servers
from .resolver import LookupFailed, Resolver

ANSWER_S = 30  # seconds for all look-ups of one answer; Postfix gives up after 100
TEXT_S = 40  # seconds for TXT records, with which the incoming filter has to wait for slow name servers

# What a mail server can be known by: an authority or its own certificate, whole or the key alone (RFC 7672 section 3).
USAGES = (2, 3)
SELECTORS = (0, 1)
DIGEST_SIZES = {1: 32, 2: 64}  # octets, by matching type

_NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)


def is_usable(record: dns.rdata.Rdata) -> bool:
    """Whether Postfix can know a mail server by this TLSA record."""
    return (
        record.usage in USAGES
        and record.selector in SELECTORS
        and (record.mtype == 0 or DIGEST_SIZES.get(record.mtype) == len(record.cert))
    )


async def has_tlsa(resolver: Resolver, server: dns.name.Name) -> bool | None:
    """Whether a mail server has signed and usable TLSA records; None if there is no server of that name.

    :raises LookupFailed: it cannot be found out.
    """
    for rdtype in ("A", "AAAA"):
        addresses = await resolver.look_up(server, rdtype)
        if addresses.records:
            break
    else:
        return None
    # TLSA is asked only where the addresses are signed: other name servers may choke on a type that they do not know
    # (RFC 7672 section 2.2.2).
    if not addresses.secure:
        return False
    tlsa = await resolver.look_up(dns.name.from_text("_25._tcp", server), "TLSA")
    return tlsa.secure and any(map(is_usable, tlsa.records))


async def has_dane(resolver: Resolver, domain: dns.name.Name) -> bool:
    """Whether all mail servers of a domain have signed and usable TLSA records.

    A server that cannot be judged does not stand in the way of the others: without TLSA records it gets no mail anyway.

    :raises LookupFailed: it cannot be found out.
    """
    mx = await resolver.look_up(domain, "MX")
    if not mx.secure:
        return False
    # Without MX records the domain is its own mail server (RFC 5321 section 5.1).
    verdicts, failure = set(), None
    for server in sorted({record.exchange for record in mx.records}) or [domain]:
        try:
            verdict = await has_tlsa(resolver, server)
        except LookupFailed as error:
            failure = error
            continue
        if verdict is False:
            return False
        verdicts.add(verdict)
    if failure and True not in verdicts:
        raise failure
    return True in verdicts


async def policy(resolver: Resolver, destination: str) -> str:
    """The answer for a next hop as Postfix has it: a domain, also a parent of one (``.example.org``), or a literal."""
    if not _NAME.fullmatch(destination):
        return socketmap.NOT_FOUND
    try:
        async with asyncio.timeout(ANSWER_S):
            return "OK dane-only" if await has_dane(resolver, dns.name.from_text(destination)) else socketmap.NOT_FOUND
    # The latter for names that are longer than the DNS allows.
    except (LookupFailed, dns.exception.DNSException) as error:
        return f"TEMP {error}"
    except TimeoutError:
        return f"TEMP the mail servers of {destination} could not be looked up in {ANSWER_S} s"


async def texts(resolver: Resolver, name: str) -> str:
    """The answer for the name of TXT records; see `text_records.answer`."""
    if not _NAME.fullmatch(name):
        return socketmap.NOT_FOUND
    try:
        found = await resolver.look_up(dns.name.from_text(name), "TXT")
    except (LookupFailed, dns.exception.DNSException) as error:
        return f"TEMP {error}"
    return text_records.answer([b"".join(record.strings) for record in found.records])


def tables(resolver: Resolver) -> socketmap.Tables:
    """What this service knows: who has DANE, for Postfix; who the mail servers are, for chatmail-transport; texts."""
    return {
        "dane": functools.partial(policy, resolver),
        "servers": functools.partial(mail_servers, resolver),
        text_records.TABLE: functools.partial(texts, dataclasses.replace(resolver, seconds=TEXT_S)),
    }


def main() -> None:
    """Run the service; see `service.run`."""
    service.parser("Tell Postfix on the socket that systemd passes which domains have DANE.").parse_args()
    service.run(lambda listener: socketmap.serve(tables(Resolver()), listener))


if __name__ == "__main__":
    main()
