"""The mail servers of a domain by the DNS (RFC 5321 section 5.1), told by socketmap.

For chatmail-transport chatmail-dane-policy looks: dnspython takes 4 MB of memory on Debian 12 and 7 MB on 13, which the
one has not left, and the other knows the same records already.
"""

import asyncio
import random

import dns.name

from .. import ip_address, socketmap
from ..resolver import LookupFailed, Resolver
from .mail_servers import ADDRESSES_MAX, NULL_MX, SERVERS_MAX, is_domain, is_elsewhere

ANSWER_S = 15  # seconds for all look-ups of one answer


async def mail_servers(resolver: Resolver, domain: str) -> str:
    """The answer for a domain: ``OK NAME ADDRESS ...; NAME ADDRESS ...``, in the order in which they are to be tried.

    The addresses of IPv4 come first, as Postfix has them (smtp_address_preference). Servers without an address are left
    out; without any, the answer is ``NOTFOUND``, and ``OK .`` for a domain that takes no mail (RFC 7505).
    """
    if not is_domain(domain) or domain.startswith("["):
        return socketmap.NOT_FOUND
    try:
        async with asyncio.timeout(ANSWER_S):
            names = await _names(resolver, dns.name.from_text(domain))
            found = [(name, await _addresses(resolver, name)) for name in names[:SERVERS_MAX]]
    except LookupFailed as error:
        return f"TEMP {error}"
    except TimeoutError:
        return f"TEMP the mail servers of {domain} could not be looked up in {ANSWER_S} s"
    servers = "; ".join(" ".join([_text(name), *addresses]) for name, addresses in found if addresses)
    if names == [dns.name.root]:
        return f"OK {NULL_MX}"
    return f"OK {servers}" if servers else socketmap.NOT_FOUND


async def _names(resolver: Resolver, domain: dns.name.Name) -> list[dns.name.Name]:
    records = list((await resolver.look_up(domain, "MX")).records)
    # Those of one preference in any order. Without any, the domain is its own.
    random.shuffle(records)
    records.sort(key=lambda record: record.preference)
    names = [record.exchange for record in records] or [domain]
    return names if names == [dns.name.root] else [name for name in names if is_domain(_text(name))]


async def _addresses(resolver: Resolver, name: dns.name.Name) -> list[str]:
    if name == dns.name.root:
        return []
    found = [
        ip_address.parse(record.address)
        for rdtype in ("A", "AAAA")
        for record in (await resolver.look_up(name, rdtype)).records
    ]
    return [str(address) for address in found if address and is_elsewhere(address)][:ADDRESSES_MAX]


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()
