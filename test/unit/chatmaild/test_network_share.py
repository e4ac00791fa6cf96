"""What Postfix is told about a client's network."""

import contextlib
import itertools
import logging
import shutil
import socket
from functools import partial

import pytest

from chatmaild import network_share
from chatmaild.network_share import DISK_PARTS, PASSES, established, places_on_disk, serve, tables
from chatmaild.smtp.replies import TOO_MANY_CONNECTIONS as REFUSED
from test.support.serving import serving
from test.support.smtp_peers import TIMEOUT_S


def table(*sockets: tuple[str, int, str]) -> str:
    """Lines of /proc/net/tcp or tcp6 for (remote address, local port, state); remote ports are 1, 2, and so on."""
    lines = ["  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"]
    for number, (address, port, state) in enumerate(sockets, 1):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        octets = socket.inet_pton(family, address)
        words = "".join(octets[at : at + 4][::-1].hex().upper() for at in range(0, len(octets), 4))
        zero = "0" * len(words)
        lines.append(
            f"{number:4}: {zero}:{port:04X} {words}:{number:04X} {state} 00000000:00000000 00:00000000 00000000  33"
        )
    return "\n".join(lines) + "\n"


NEW_PORTS = itertools.cycle(range(40_000, 65_536))


def shares_of(*arguments, places: int = 1000, **options) -> network_share.Shares:
    return network_share.Shares(lambda: places, *arguments, **options)


def asked(address: str, port: int = 25, limit: int = 2, client_port: int | None = None) -> dict[str, str]:
    """What Postfix asks, by default about a new client."""
    return {
        "request": "smtpd_access_policy",
        "protocol_state": "CONNECT",
        "client_address": address,
        "client_port": str(client_port or next(NEW_PORTS)),
        "server_port": str(port),
        "policy_context": str(limit),
    }


def test_addresses_of_one_network_count_together_and_others_pass():
    held = table(*((f"192.0.2.{number}", 25, "01") for number in range(3)), ("198.51.100.1", 25, "01"))
    shares = shares_of(lambda: held)
    assert shares.decide(asked("192.0.2.77")) == REFUSED
    assert shares.decide(asked("198.51.100.1")) == PASSES
    assert shares_of(lambda: held).decide(asked("192.0.2.77", limit=4)) == PASSES


@pytest.mark.parametrize("limit", [2, 5, 50])
@pytest.mark.parametrize("clients", [1, 2, 5, 40, 50, 60])
def test_clients_that_come_together_have_all_the_places_and_no_more(limit, clients):
    shares = shares_of(lambda: table(*[("192.0.2.1", 25, "01")] * clients), clock=lambda: 0.0)
    answers = [shares.decide(asked("192.0.2.1", 25, limit, number)) for number in range(1, clients + 1)]
    assert answers.count(PASSES) == min(limit, clients)


def test_who_connected_since_the_last_count_counts_too():
    shares = shares_of(lambda: table(("192.0.2.1", 25, "01")), clock=lambda: 0.0)
    assert [shares.decide(asked("192.0.2.1", limit=3)) for _ in range(4)] == [PASSES, PASSES, REFUSED, REFUSED]


def test_of_ipv6_a_48_counts_together():
    held = table(*((f"2001:db8:7:{number}::1", 25, "01") for number in range(3)), ("2001:db8:8::1", 25, "01"))
    shares = shares_of(lambda: held)
    assert shares.decide(asked("2001:db8:7:ffff::9")) == REFUSED
    assert shares.decide(asked("2001:db8:8::1")) == PASSES


def test_each_port_is_counted_by_itself():
    shares = shares_of(lambda: table(*[("192.0.2.1", 25, "01")] * 3))
    assert shares.decide(asked("192.0.2.1", port=465)) == PASSES


def test_of_port_443_only_those_count_for_which_postfix_has_asked():
    held = [("192.0.2.1", 443, "01")] * 5
    moment = itertools.count(step=network_share.STALE_SECONDS)
    shares = shares_of(lambda: table(*held), clock=lambda: next(moment))
    answers = [shares.decide(asked("192.0.2.1", 443, client_port=number)) for number in (1, 2, 3)]
    assert answers == [PASSES, PASSES, REFUSED]
    held.clear()
    assert shares.decide(asked("192.0.2.1", 443)) == PASSES


def test_connections_that_are_closed_do_not_count_those_closed_by_the_client_alone_do():
    shares = shares_of(lambda: table(*[("192.0.2.1", 25, "06")] * 3, *[("192.0.2.1", 465, "08")] * 3))
    assert shares.decide(asked("192.0.2.1")) == PASSES
    assert shares.decide(asked("192.0.2.1", port=465)) == REFUSED


@pytest.mark.parametrize(
    "change",
    [
        *({"client_address": address} for address in ("127.0.0.1", "", "unknown")),
        *({name: value} for name in ("policy_context", "client_port") for value in ("", "²", "9" * 5000)),
    ],
)
def test_who_cannot_be_judged_passes(change):
    shares = shares_of(lambda: table(*[("127.0.0.1", 25, "01")] * 3))
    assert shares.decide(asked("192.0.2.1") | change) == PASSES


def test_what_was_refused_is_logged_by_network_and_port(caplog):
    caplog.set_level(logging.INFO)
    shares = shares_of(lambda: table(*[("192.0.2.1", 25, "01")] * 3))
    for number in range(5):
        shares.decide(asked(f"192.0.2.{number}"))
    shares.report()
    shares.report()
    assert [record.getMessage() for record in caplog.records] == ["Refused: 5 connections of 192.0.2.0/24 to port 25"]


def test_a_disk_with_little_room_has_fewer_places(tmp_path):
    held = table(*[("192.0.2.1", 25, "01")] * 3)
    assert shares_of(lambda: held, places=4).decide(asked("192.0.2.1", limit=20)) == PASSES
    assert shares_of(lambda: held, places=3).decide(asked("192.0.2.1", limit=20)) == REFUSED
    free = shutil.disk_usage(tmp_path).free
    assert places_on_disk(tmp_path, free // DISK_PARTS // 10) in (9, 10)


def test_however_full_the_disk_is_a_network_has_a_tenth_of_its_places_and_the_log_says_why(caplog):
    caplog.set_level(logging.INFO)
    shares = shares_of(table, places=0)
    answers = [shares.decide(asked("192.0.2.1", limit=50)) for _ in range(6)]
    assert answers == [PASSES] * 5 + [REFUSED]
    shares.report()
    reason = "for the disk has little room"
    assert [record.getMessage() for record in caplog.records] == [
        f"Refused: 1 connections of 192.0.2.0/24 to port 25, {reason}"
    ]


def test_a_disk_that_does_not_answer_is_no_reason_to_refuse(tmp_path, caplog):
    assert places_on_disk(tmp_path / "gone", 1) > 1000
    assert "No such file" in caplog.text


class Kernel:
    """A table of connections that changes, and how often it was read; time goes on by 1 ms with each question."""

    def __init__(self, *connections: tuple[str, int, str]) -> None:
        self.connections = connections
        self.reads = 0
        self.now = 0.0
        self.shares = shares_of(self._read, lambda: self.now)

    def _read(self) -> str:
        self.reads += 1
        return table(*self.connections)

    def ask(self, address: str, count: int = 1) -> set[str]:
        answers = set()
        for _ in range(count):
            answers.add(self.shares.decide(asked(address)))
            self.now += 0.001
        return answers


def test_a_flood_of_questions_reads_the_kernels_tables_seldom():
    short = Kernel()  # connections that have ended before the next count
    short.ask("192.0.2.1", 1000)
    assert short.reads <= 11
    full = Kernel(*[("192.0.2.1", 25, "01")] * 3)
    assert full.ask("192.0.2.1", 10_000) == {REFUSED}
    assert full.reads <= 11


def test_others_pass_while_a_network_asks_in_vain():
    kernel = Kernel(*[("192.0.2.1", 25, "01")] * 3)
    for _ in range(100):
        assert kernel.ask("192.0.2.1", 10) == {REFUSED}
        kernel.now += 0.1
        assert kernel.ask("198.51.100.1") == {PASSES}


def test_connections_that_have_ended_make_room():
    kernel = Kernel(*[("192.0.2.1", 25, "01")] * 3)
    assert kernel.ask("192.0.2.1") == {REFUSED}
    kernel.connections = ()
    kernel.now += 1
    assert kernel.ask("192.0.2.1", 2) == {PASSES}
    assert kernel.ask("192.0.2.1") == {REFUSED}
    kernel.now += 0.1
    assert kernel.ask("192.0.2.1") == {PASSES}


def test_connections_whose_owners_never_ask_are_seen():
    kernel = Kernel()
    assert kernel.ask("192.0.2.1") == {PASSES}
    kernel.connections = [("192.0.2.1", 25, "01")] * 3
    kernel.now += 5
    assert kernel.ask("192.0.2.1") == {REFUSED}


def test_the_kernels_tables_are_read():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as first,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as other,
        socket.create_connection(other.getsockname()[:2]) as second,
    ):
        ports = [server.getsockname()[1] for server in (listener, other)]
        clients = [client.getsockname()[:2] for client in (first, second)]
        assert set(established(tables(), ports)) == set(zip(ports, clients, strict=True))


def as_octets(request: dict[str, str]) -> bytes:
    return "".join(f"{name}={value}\n" for name, value in request.items()).encode() + b"\n"


def test_postfix_asks_many_times_on_a_connection():
    with (
        serving(partial(serve, shares_of(lambda: table(*[("192.0.2.1", 25, "01")] * 3)))) as port,
        socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client,
    ):
        answers = client.makefile()
        for address, action in (("192.0.2.9", REFUSED), ("192.0.3.9", PASSES), ("192.0.2.9", REFUSED)):
            client.sendall(as_octets(asked(address)))
            assert (answers.readline(), answers.readline()) == (f"action={action}\n", "\n")


@pytest.mark.parametrize("octets", [b"x" * 100_000, b"a=b\n" * 10_000, b"\xff=\xff\n"])
def test_who_sends_something_else_is_sent_away_and_others_are_served(octets):
    with serving(partial(serve, shares_of(table))) as port:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client, contextlib.suppress(OSError):
            client.sendall(octets)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client:
            client.sendall(as_octets(asked("192.0.2.1")))
            assert client.recv(100) == b"action=DUNNO\n\n"
