"""A DNS of the tests' own."""

import asyncio
import contextlib
import functools

import pytest

from chatmaild import socketmap
from chatmaild.outbound import lookup, mail_servers
from chatmaild.outbound.mail_servers import Directory
from chatmaild.resolver import Resolver
from test.support.dns_servers import NameServer

ZONES = {
    "example.": """
relay      MX 10 mx.relay.example.
mx.relay   A 127.0.0.2
_self      MX 10 mx.relay.example.
other      MX 10 mx.other.example.
mx.other   A 127.0.0.2
two        MX 20 mx.relay.example.
two        MX 10 closed.example.
closed     A 127.0.0.3
bare       A 127.0.0.2
null       MX 0 .
mxless     TXT "nothing"
lost       MX 10 nowhere.example.
six        MX 10 mx.six.example.
mx.six     AAAA ::2
loop       MX 10 localhost.loop.example.
localhost.loop  A 127.0.0.1
localhost.loop  AAAA ::1
localhost.loop  AAAA ::ffff:127.0.0.1
far        A 192.0.2.1
far        AAAA 2001:db8::1
a.many     A 192.0.2.2
b.many     A 192.0.2.3
c.many     A 192.0.2.4
many       MX 30 c.many.example.
many       MX 10 a.many.example.
many       MX 20 b.many.example.
odd        MX 10 a\\032b.example.
""",
}


@pytest.fixture(scope="session")
def name_server():
    server = NameServer("127.0.0.1", 0, ZONES)
    yield server
    server.close()


@pytest.fixture
def directory(name_server):
    """Make a directory of mail servers, within a coroutine: what is said of MTA-STS, None where nobody is there."""
    find = functools.partial(lookup.mail_servers, Resolver("127.0.0.1", name_server.port, seconds=5))

    @contextlib.asynccontextmanager
    async def serving(policy: str | None = "NOTFOUND "):
        async def policy_of(domain: str) -> str:
            return policy

        tables = {"servers": find} | ({"postfix": policy_of} if policy is not None else {})
        service = await asyncio.start_server(
            lambda reader, writer: socketmap.serve_connection(tables, reader, writer), "127.0.0.1", 0
        )
        async with service:
            address = service.sockets[0].getsockname()
            yield Directory(address, address)

    return serving


@pytest.fixture
def loopback_is_elsewhere(monkeypatch) -> None:
    """The tests' servers are on loopback, where no mail server may be."""
    for module in (mail_servers, lookup):
        monkeypatch.setattr(module, "is_elsewhere", lambda address: True)
