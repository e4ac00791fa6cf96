"""TXT records as the service that looks in the DNS tells them to the others."""

import asyncio
import dataclasses
import functools
import socket

import pytest

from chatmaild import dane_policy, socketmap
from chatmaild.resolver import Resolver
from chatmaild.text_records import LookupFailed, TextRecords
from test.support.dns_servers import NameServer
from test.support.serving import serving

# Nearly as many as one answer of the DNS has room for.
LONG = 240
ZONE = f"""
one        TXT "v=DKIM1; " "p=\\000\\195\\255"
several    TXT "a"
several    TXT "" "b c"
empty      TXT ""
alias      CNAME one
wrong      A 192.0.2.1
{"".join(f'long TXT "{number:03}" "{"x" * 250}"' + chr(10) for number in range(LONG))}
"""


@pytest.fixture(scope="module")
def server():
    server = NameServer("127.0.0.1", 0, {"example.": ZONE}, fault="truncating")
    yield server
    server.close()


@pytest.fixture
def look_up(server):
    """Ask for the records of a name by way of the service."""
    tables = dane_policy.tables(Resolver(port=server.port))
    with serving(functools.partial(socketmap.serve, tables)) as port:
        records = TextRecords(20, ("127.0.0.1", port))
        yield lambda name: asyncio.run(records.look_up(name))


@pytest.mark.parametrize(
    "name, records",
    [
        ("one.example", [b"v=DKIM1; p=\0\xc3\xff"]),
        ("ONE.example", [b"v=DKIM1; p=\0\xc3\xff"]),
        ("alias.example", [b"v=DKIM1; p=\0\xc3\xff"]),
        ("several.example", [b"a", b"b c"]),
        ("empty.example", [b""]),
        ("wrong.example", []),
        ("nobody.example", []),
        ("no name", []),
        ("long.example", [b"%03d" % number + b"x" * 250 for number in range(LONG)]),
    ],
)
def test_records_arrive_as_they_are(look_up, name, records):
    assert sorted(look_up(name)) == records


@pytest.mark.parametrize("name", ["refused.invalid", f"{'x' * 64}.example", "a..example"])
def test_what_the_dns_does_not_answer_is_no_absence(look_up, name):
    with pytest.raises(LookupFailed):
        look_up(name)


@pytest.mark.parametrize("answer", ["TEMP SERVFAIL", "PERM no such table", "OK p=1", "OK \udcff", "nonsense", ""])
def test_an_answer_of_another_kind_is_no_absence(answer):
    async def say(name: str) -> str:
        return answer

    with serving(functools.partial(socketmap.serve, {"txt": say})) as port, pytest.raises(LookupFailed):
        asyncio.run(TextRecords(20, ("127.0.0.1", port)).look_up("one.example"))


def test_a_service_that_is_silent_or_away_is_no_absence():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        records = TextRecords(0.1, listener.getsockname())
        with pytest.raises(LookupFailed, match="it is silent"):
            asyncio.run(records.look_up("one.example"))
    with pytest.raises(LookupFailed, match="does not answer"):
        asyncio.run(dataclasses.replace(records, seconds=20).look_up("one.example"))
