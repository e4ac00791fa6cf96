"""The filter as a process, between a client and a next server of the test's own."""

import contextlib
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chatmaild.message import mime
from test.support import activation, messages
from test.support.service_settings import write_settings
from test.support.smtp_peers import HANG, TIMEOUT_S, Client, NextServer, free_port, next_server
from test.unit.chatmaild.conftest import SOURCE, disturb

DOMAIN = "chat.example.org"
ALICE, BOB, CAROL = f"alice@{DOMAIN}", f"bob@{DOMAIN}", "carol@example.net"
ENCRYPTION_NEEDED = "523 Encryption Needed: Invalid Unencrypted Mail"
FORWARDED = "(forwarded from 127.0.0.1)"

# Signatures are the matter of message/dkim/test_in_the_filter.py; here all that is incoming counts as signed.
UNSIGNED_PASSES = """
from chatmaild import filtermail
from chatmaild.message import dkim

async def verify(message, domain, records, run):
    pass

dkim.verify = verify
filtermail.main()
"""


class Filter:
    """A running filter with the server that it hands mail to."""

    def __init__(self, process: subprocess.Popen, ports: list[int], server: NextServer, directory: Path) -> None:
        self.process = process
        self.port, self.http_port = ports[0], ports[-1]
        self.next = server
        self.mail_dir = directory / "mail"
        self._log = directory / "log"
        self._clients = contextlib.ExitStack()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not self._log.read_text().startswith("entering serving loop\n"):
            assert self.process.poll() is None and time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.01)

    def client(self) -> Client:
        client = Client(self.port)
        self._clients.callback(client.close)
        return client

    def mail(self, sender: str, recipients: str | list[str], message: bytes) -> str:
        return self.client().mail(sender, recipients, message)

    def flag(self, address: str, name: str) -> None:
        """Set a flag in a mailbox, which is made."""
        (self.mail_dir / address).mkdir(parents=True, exist_ok=True)
        (self.mail_dir / address / name).touch()

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s*(\d+) kB", status)[1])

    def forget(self) -> None:
        """Be as after the start."""
        self._clients.close()
        self.next.transactions.clear()
        self.next.replies.clear()
        shutil.rmtree(self.mail_dir, ignore_errors=True)

    def terminate(self) -> None:
        """Tell the service to end, as systemd does."""
        self.process.terminate()

    def wait(self) -> list[str]:
        """Wait until the service has ended; return what it logged after it was ready."""
        assert self.process.wait(TIMEOUT_S) == 0
        return self._log.read_text().splitlines()[1:]

    def kill(self) -> None:
        self._clients.close()
        self.process.kill()
        self.process.wait(TIMEOUT_S)


@contextlib.contextmanager
def running_filter(role: str, directory: Path, program: str = UNSIGNED_PASSES, **settings):
    """A Filter in a process of its own, by a Python program; keyword arguments are settings."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(next_server())
        # SMTP, and for incoming mail HTTP.
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2 if role == "incoming" else 1)
        ]
        suffix = "_incoming" if role == "incoming" else ""
        settings = {
            "mail_domain": DOMAIN,
            "mailboxes_dir": directory / "mail",
            "max_user_send_burst_size": 100_000,
            f"postfix_reinject_port{suffix}": server.port,
            **settings,
        }
        ini = write_settings(directory / "settings.toml", **settings)
        # Not a pipe: nobody reads while a test sends mail, and a full one would stop the service.
        with (directory / "log").open("x") as log:
            process = activation.start(
                [sys.executable, "-c", program, ini, role],
                listeners,
                os.environ | {"PYTHONPATH": str(SOURCE)},
                stderr=log,
            )
        ports = [listener.getsockname()[1] for listener in listeners]
        relay = Filter(process, ports, server, directory)
        try:
            relay.wait_until_ready()
            yield relay
        finally:
            relay.kill()


@pytest.fixture
def start_filter(tmp_path):
    """Start a filter; keyword arguments are settings."""
    with contextlib.ExitStack() as stack:

        def start(role: str, **settings) -> Filter:
            directory = tmp_path / role
            directory.mkdir()
            return stack.enter_context(running_filter(role, directory, **settings))

        yield start


@pytest.fixture(scope="module")
def shared_filters(tmp_path_factory):
    """A filter of each role, for the many tests that leave it running."""
    with contextlib.ExitStack() as stack:
        yield {
            role: stack.enter_context(running_filter(role, tmp_path_factory.mktemp(role)))
            for role in ("outgoing", "incoming")
        }


@pytest.fixture
def outgoing(shared_filters):
    yield shared_filters["outgoing"]
    shared_filters["outgoing"].forget()


@pytest.fixture
def incoming(shared_filters):
    yield shared_filters["incoming"]
    shared_filters["incoming"].forget()


@pytest.fixture(params=["outgoing", "incoming"])
def either(shared_filters, request):
    yield shared_filters[request.param]
    shared_filters[request.param].forget()


# SMTP dialogue


def test_the_dialogue_has_the_fixed_replies(outgoing):
    client = outgoing.client()
    assert client.banner == "220 filtermail SMTP"
    assert client.command("HELO client") == "250-filtermail\r\n250 OK"
    for greeting in ["EHLO client", "ehlo client", "LHLO client"]:
        assert client.command(greeting) == "250-filtermail\r\n250-XFORWARD ADDR\r\n250-8BITMIME\r\n250 OK"
    assert client.command("NOOP") == "250 OK"
    assert client.command("RSET") == "250 OK"
    for unknown in ["VRFY alice", "STARTTLS", "AUTH PLAIN x", "MAIL", "RCPT", "", "\xe4"]:
        assert client.command(unknown) == "500 Command not recognized"
    assert client.command("quit") == "221 OK"
    assert client.reply() == ""


def test_parameters_of_mail_and_rcpt_are_accepted_and_not_passed_on(outgoing):
    client = outgoing.client()
    client.command("EHLO client")
    assert client.command(f"mail from:<{ALICE}> SIZE=5000 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x") == "250 OK"
    assert client.command(f"rcpt to:<{CAROL}> ORCPT=rfc822;{CAROL} NOTIFY=NEVER X-UNKNOWN") == "250 OK"
    client.command("DATA")
    client.send(messages.encrypted(ALICE, CAROL) + b".\r\n")
    assert client.reply() == "250 OK"
    assert outgoing.next.delivered[0].commands == [
        b"EHLO [127.0.0.1]",
        f"MAIL FROM:<{ALICE}>".encode(),
        f"RCPT TO:<{CAROL}>".encode(),
        b"DATA",
    ]


def test_commands_out_of_order_are_refused(outgoing):
    client = outgoing.client()
    assert client.command("DATA").startswith("503 ")
    assert client.command(f"RCPT TO:<{CAROL}>").startswith("503 ")
    assert client.command(f"MAIL FROM:<{ALICE}>") == "250 OK"
    assert client.command("DATA").startswith("503 ")
    assert client.command(f"MAIL FROM:<{BOB}>").startswith("503 ")
    assert client.command("RSET") == "250 OK"
    assert client.command(f"RCPT TO:<{CAROL}>").startswith("503 ")


def test_addresses_that_cannot_be_read_are_refused_and_the_dialogue_goes_on(incoming):
    client = incoming.client()
    assert client.command("MAIL FROM:<a b>") == "500 Invalid address in MAIL FROM"
    assert client.command(f"MAIL FROM:<{CAROL}>") == "250 OK"
    for broken in ["<>", "<a b@c>", "<a@b", "", "<a@b@c>"]:
        assert client.command(f"RCPT TO:{broken}").startswith("501 5.1.3 ")
    assert client.command(f"RCPT TO:<{ALICE}>") == "250 OK"


def test_the_number_of_recipients_is_limited(incoming):
    client = incoming.client()
    client.command("MAIL FROM:<>")
    client.send(b"".join(b"RCPT TO:<user%d@chat.example.org>\r\n" % number for number in range(1001)))
    assert [client.reply() for _ in range(1000)] == ["250 OK"] * 1000
    assert client.reply().startswith("452 4.5.3 ")


def test_a_client_that_speaks_something_else_is_sent_away(outgoing):
    client = outgoing.client()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: b\r\nTE: c\r\nUser-Agent: d\r\nMAIL FROM:<>\r\n")
    replies = list(iter(client.reply, ""))
    assert replies[:4] == ["500 Command not recognized"] * 4
    assert [reply[:4] for reply in replies[4:]] == ["502 "]


def test_broken_clients_leave_it_up(either):
    disturb(lambda: socket.create_connection(("127.0.0.1", either.port), TIMEOUT_S))
    assert either.mail(ALICE, BOB, messages.encrypted(ALICE, BOB)) == "250 OK"


@pytest.mark.parametrize("octets", [b"NOOP\n", b"NOOP\r\nMAIL FROM:<a@b>\n", b"\n"])
def test_a_command_that_ends_in_a_bare_line_feed_closes_the_connection(outgoing, octets):
    client = outgoing.client()
    client.send(octets)
    replies = list(iter(client.reply, ""))
    assert replies in ([], ["250 OK"])


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_an_endless_command_is_cut_off(outgoing, end):
    client = outgoing.client()
    client.send(b"EHLO " + b"x" * 20_000 + end)
    assert client.reply() == "500 Command line too long"
    assert client.reply() == ""


def test_original_spelling_is_kept(incoming):
    recipients = [
        f"Alice+Tag@{DOMAIN.upper()}",
        "SRS1=HHH=example.com==HHH=TT=example.org=Alice@example.net",
        "x@[192.0.2.0]",
    ]
    assert incoming.mail("Carol@Example.NET", recipients, messages.encrypted("carol@example.net", ALICE)) == "250 OK"
    assert incoming.next.delivered[0].commands[1:-1] == [
        b"MAIL FROM:<Carol@Example.NET>",
        *(f"RCPT TO:<{recipient}>".encode() for recipient in recipients),
    ]


def test_transactions_follow_each_other_on_one_connection(either):
    client = either.client()
    either.flag(BOB, "enforceE2EEincoming")
    for number in range(3):
        message = messages.encrypted(ALICE, BOB, subject=str(number))
        assert client.mail(ALICE, BOB, message) == "250 OK"
        assert either.next.delivered[number].message == message
        assert client.mail(ALICE, BOB, messages.fake_encrypted(ALICE, BOB)) == ENCRYPTION_NEEDED
    assert len(either.next.delivered) == 3
    assert client.command("QUIT") == "221 OK"


def test_a_refused_sender_leaves_the_connection_usable(start_filter):
    relay = start_filter("outgoing", max_user_send_burst_size=1)
    client = relay.client()
    assert client.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL)) == "250 OK"
    assert client.command(f"MAIL FROM:<{ALICE}>").startswith("450 4.7.1: Too much mail from")
    assert client.mail(BOB, CAROL, messages.encrypted(BOB, CAROL)) == "250 OK"


# Message data


def test_octets_of_a_message_do_not_change(incoming):
    message = (
        messages.encrypted(CAROL, ALICE, headers="X-Latin: caf\xe9\r\n").replace("\xe9".encode(), b"\xe9")
        + b".\r\n..\r\n.leading dot\r\n \t trailing space \r\n\r\n\xff\xfe\x00\x01\r\n"
        + b"long" * 5000
        + b"\r\n\r\n"
    )
    assert incoming.mail(CAROL, ALICE, message) == "250 OK"
    assert incoming.next.delivered[0].message == message


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_final_dot_is_found_wherever_the_input_is_cut(outgoing, size):
    message = messages.encrypted(ALICE, CAROL)
    client = outgoing.client()
    client.begin(ALICE, CAROL)
    octets = message + b".\r\nNOOP\r\nQUIT\r\n"
    for start in range(0, len(octets), size):
        client.send(octets[start : start + size])
    assert [client.reply() for _ in range(3)] == ["250 OK", "250 OK", "221 OK"]
    assert outgoing.next.delivered[0].message == message


@pytest.mark.parametrize(
    "data",
    [b"", b"Hello!\r\r\n", b"Hello\rworld!\r\n", b"\r\r\n", b"From: a@b\r\n\r\nHello\r.\r\r\n", b"Hello\r\n.\rx\r\n"],
)
def test_a_bare_carriage_return_or_no_data_is_refused_in_step(either, data):
    client = either.client()
    client.begin(ALICE, BOB)
    client.send(data + b".\r\n")
    assert client.reply() == "500 Invalid DATA"
    assert client.mail(ALICE, BOB, messages.encrypted(ALICE, BOB)) == "250 OK"
    assert len(either.next.delivered) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"Hello!\n",
        b"Hello!\n\r",
        b"Hello\nworld!\r\n",
        b"Hello!\r\n\n",
        b"\n",
        b"Hello\r\n.\nMAIL FROM:<x@y>\r\n",
        b"Hello\n.\r\nMAIL FROM:<x@y>\r\n",
        b"Hello\n.\nMAIL FROM:<x@y>\r\n",
        b"x" * 100_000 + b"\n",
    ],
)
def test_a_bare_line_feed_is_refused_and_ends_the_connection(outgoing, data):
    client = outgoing.client()
    client.begin(ALICE, CAROL)
    client.send(messages.encrypted(ALICE, CAROL) + data)
    assert client.reply() == "500 Invalid DATA"
    client.shut_down_writing()
    assert client.reply() == ""
    assert outgoing.next.transactions == []


@pytest.mark.parametrize(
    "data", [b"\r\n", b"Hello!\r\n", b"Hello!\r\n .\r\n", b"Hello!\r\n..\r\n", b"Hello\r\n.world\r\n", b"..\r\n"]
)
def test_well_formed_data_reaches_the_rules(outgoing, data):
    client = outgoing.client()
    client.begin(ALICE, CAROL)
    client.send(data + b".\r\n")
    assert client.reply().startswith(("500 Invalid FROM header: ", "500 Failed to parse message: "))


def test_a_message_of_the_largest_size_passes_and_one_octet_more_does_not(start_filter):
    size = 3_000_000
    relay = start_filter("outgoing", max_message_size=size)
    message = messages.encrypted(ALICE, CAROL, payload=messages.encrypted_payload(2_000_000))
    lines, rest = divmod(size - len(message) - 2, 100)
    largest = message + (b" " * 98 + b"\r\n") * lines + b" " * rest + b"\r\n"
    client = relay.client()
    assert client.mail(ALICE, CAROL, message) == "250 OK"
    assert len(largest) == size
    assert client.mail(ALICE, CAROL, largest) == "250 OK"
    too_large = largest.removesuffix(b"\r\n") + b" \r\n"
    assert client.mail(ALICE, CAROL, too_large) == "552 Message exceeds maximum size"
    assert client.mail(ALICE, CAROL, message) == "250 OK"
    assert [transaction.message for transaction in relay.next.delivered] == [message, largest, message]


@pytest.mark.parametrize("shape", ["one field", "many fields"])
def test_a_header_section_of_the_largest_size_passes_and_a_larger_one_is_told_the_limit(either, shape):
    message = messages.encrypted(ALICE, BOB)
    largest = messages.with_header_section(message, mime.HEADERS_MAX, shape)
    assert either.mail(ALICE, BOB, largest) == "250 OK"
    assert either.next.delivered[0].message == largest
    reply = either.mail(ALICE, BOB, messages.with_header_section(message, mime.HEADERS_MAX + 1, shape))
    assert reply.startswith("500 Failed to parse message: header section of more than 64000 octets; shorten ")


def test_a_user_is_told_which_line_is_too_long_for_mail_servers(outgoing):
    longest = "References: " + "r" * (mime.LINE_MAX - 12) + "\r\n"
    assert outgoing.mail(ALICE, BOB, messages.encrypted(ALICE, BOB, headers=longest)) == "250 OK"
    message = messages.encrypted(ALICE, BOB, headers=longest.replace("\r", "r\r"))
    line = message[: message.index(b"References")].count(b"\r\n") + 1
    why = "500 Failed to parse message: line"
    allowed = "octets, allowed are 998 (RFC 5322 section 2.1.1)"
    assert outgoing.mail(ALICE, BOB, message) == f"{why} {line}, header field References: 999 {allowed}"
    head, _, text = messages.armor(messages.encrypted_payload(), checksum="").partition(b"\r\n\r\n")
    in_one_line = text.replace(b"\r\n", b"").replace(b"-----END", b"\r\n-----END") + b"\r\n"
    message = messages.encrypted(ALICE, BOB, armored=head + b"\r\n\r\n" + in_one_line)
    line = message[: message.index(b"-----END")].count(b"\r\n")
    assert outgoing.mail(ALICE, BOB, message) == f"{why} {line}: {in_one_line.index(b'-') - 2} {allowed}"


def test_the_lines_of_others_are_taken_as_long_as_they_are(incoming):
    message = messages.encrypted(CAROL, BOB, headers="X-Long: " + "x" * 2000 + "\r\n")
    assert incoming.mail(CAROL, BOB, message) == "250 OK"
    assert incoming.next.delivered[0].message == message


def test_much_too_large_a_message_is_read_to_its_end_and_refused_in_step(start_filter):
    relay = start_filter("outgoing", max_message_size=100_000)
    client = relay.client()
    client.begin(ALICE, CAROL)
    client.send(b"RSET\r\nMAIL FROM:<x@y>\r\nDATA\r\n" * 100_000 + b".\r\nNOOP\r\n")
    assert client.reply() == "552 Message exceeds maximum size"
    assert client.reply() == "250 OK"
    assert client.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL)) == "250 OK"


def test_large_messages_beyond_the_budget_wait_for_room_and_small_ones_pass(start_filter):
    size = 2_000_000
    relay = start_filter("incoming", max_message_size=size)
    part = b"From: carol@example.net\r\n\r\n" + b"x" * (size - 100)
    clients = [relay.client() for _ in range(4)]
    for client in clients:  # what is above 256 KiB counts against a budget of 4 times 2 MB
        client.begin(CAROL, ALICE)
        client.send(part + b"\r\n")
    with ThreadPoolExecutor() as pool:
        waiting = relay.client()
        waiting.begin(CAROL, ALICE)
        waits = pool.submit(lambda: (waiting.send(part + b"\r\n.\r\n"), waiting.reply())[1])
        told = relay.client()
        assert told.command(f"MAIL FROM:<{CAROL}> SIZE={size}") == "250 OK"
        assert told.command(f"RCPT TO:<{ALICE}>") == "250 OK"
        told.send(b"DATA\r\n")
        assert relay.client().mail(CAROL, ALICE, messages.encrypted(CAROL, ALICE)) == "250 OK"
        assert not waits.done()
        for client in clients:
            client.send(b".\r\n")
            assert client.reply() == "250 OK"
        assert waits.result(TIMEOUT_S) == "250 OK"
    assert told.reply().startswith("354 ")
    told.send(part + b"\r\n.\r\n")
    assert told.reply() == "250 OK"


def test_a_client_that_disappears_delivers_nothing(start_filter):
    relay = start_filter("outgoing")
    for octets in [b"", messages.encrypted(ALICE, BOB), messages.encrypted(ALICE, BOB) + b"."]:
        client = relay.client()
        client.begin(ALICE, BOB)
        client.send(octets)
        client.shut_down_writing()
        assert client.reply() == ""
    assert relay.next.transactions == []
    relay.terminate()
    assert relay.wait() == ["Connection lost within a message; nothing of it is delivered"] * 3


def test_a_slow_client_does_not_hold_up_others(outgoing):
    slow = outgoing.client()
    slow.begin(ALICE, CAROL)
    message = messages.encrypted(ALICE, CAROL)
    slow.send(message[:1000])
    assert outgoing.mail(BOB, CAROL, messages.encrypted(BOB, CAROL)) == "250 OK"
    slow.send(message[1000:] + b".\r\n")
    assert slow.reply() == "250 OK"


def test_hostile_messages_are_answered(incoming):
    incoming.flag(ALICE, "enforceE2EEincoming")
    head = b"From: carol@example.net\r\n"
    typed = b'Content-Type: multipart/encrypted; boundary="b"\r\n'
    cases = {
        b"a:\r\n" * 2_000_000: "500 Failed to parse message: ",
        head + b"X: " + b"x" * 10_000_000 + b"\r\n\r\n": "500 Failed to parse message: ",
        head + b"X: \0\r\n\r\n": "500 Failed to parse message: ",
        b"From: " + b"(" * 30_000 + b"\r\n\r\n": "500 Invalid FROM header: ",
        b"From: " + b"a@b, " * 12_000 + b"\r\n\r\n": "500 Invalid FROM header: ",
        head * 1000 + b"\r\n": "500 Invalid FROM header: ",
        head + typed + b"\r\n" + b"--b\r\n" * 3_000_000: ENCRYPTION_NEEDED,
        head + typed + b"\r\n" + b"\r\n" * 5_000_000: ENCRYPTION_NEEDED,
        head + b"Content-Type: text/plain" + b';a="' * 15_000 + b"\r\n\r\n": ENCRYPTION_NEEDED,
        head + typed.replace(b"b", b"b;" * 500) + b"\r\n\0\xff\r\n": ENCRYPTION_NEEDED,
        messages.encrypted(
            CAROL, ALICE, payload=messages.partial_packet(18, bytes(3_000_000), 0) + b"x"
        ): ENCRYPTION_NEEDED,
        messages.encrypted(CAROL, ALICE, payload=b"\xc1\0" * 1_500_000): ENCRYPTION_NEEDED,
    }
    client = incoming.client()
    for message, reply in cases.items():
        assert client.mail(CAROL, ALICE, message).startswith(reply)
    assert client.mail(CAROL, ALICE, messages.encrypted(CAROL, ALICE)) == "250 OK"


# Outgoing rules


@pytest.mark.parametrize("sender", ["alice", '"a@b"@c'])
def test_a_sender_without_exactly_one_at_sign_is_refused(outgoing, sender):
    assert outgoing.client().command(f"MAIL FROM:<{sender}>") == f"500 Invalid from address <{sender}>"


def test_messages_beyond_the_burst_are_refused_before_they_are_sent(start_filter):
    relay = start_filter("outgoing", max_user_send_per_minute=1, max_user_send_burst_size=3)
    client = relay.client()
    for spelling in [f'"alice"@{DOMAIN}', ALICE.upper(), f"alice@{DOMAIN}."]:
        assert client.command(f"MAIL FROM:<{spelling}>") == "250 OK"
        assert client.command("RSET") == "250 OK"
    assert client.command(f"MAIL FROM:<{ALICE}>").startswith("450 4.7.1: Too much mail from")
    assert client.command(f"MAIL FROM:<{BOB}>") == "250 OK"


@pytest.mark.parametrize(
    ("build", "reply"),
    [
        (messages.encrypted, "250 OK"),
        (messages.legacy_packets, "250 OK"),
        (messages.partial_lengths, "250 OK"),
        (messages.securejoin, "250 OK"),
        (messages.securejoin_single, "250 OK"),
        (messages.version_line, ENCRYPTION_NEEDED),
        (messages.plain, ENCRYPTION_NEEDED),
        (messages.fake_encrypted, ENCRYPTION_NEEDED),
        (messages.literal, ENCRYPTION_NEEDED),
        (messages.read_receipt, ENCRYPTION_NEEDED),
        (messages.bounce, ENCRYPTION_NEEDED),
        (messages.autocrypt_setup, ENCRYPTION_NEEDED),
    ],
)
def test_users_send_encrypted_mail_only(outgoing, build, reply):
    message = build(ALICE, CAROL)
    assert outgoing.mail(ALICE, CAROL, message).startswith(reply)
    assert [transaction.message for transaction in outgoing.next.delivered] == [message] * (reply == "250 OK")


@pytest.mark.parametrize("author", [BOB, CAROL, f"MAILER-DAEMON@{DOMAIN}"])
def test_the_from_field_must_name_the_sender(outgoing, author):
    assert (
        outgoing.mail(ALICE, CAROL, messages.encrypted(author, CAROL)) == f"500 Invalid FROM <{author}> for <{ALICE}>"
    )
    assert outgoing.next.transactions == []


def test_the_from_field_is_compared_without_case(outgoing):
    assert outgoing.mail(ALICE, CAROL, messages.encrypted(ALICE.upper(), CAROL)) == "250 OK"


def test_the_null_sender_sends_nothing_out(outgoing):
    assert outgoing.mail("", CAROL, messages.encrypted(ALICE, CAROL)) == f"500 Invalid FROM <{ALICE}> for <>"


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"From: \r\n",
        b"From: Alice\r\n",
        b"From: <>\r\n",
        b"From: alice@chat.example.org, bob@chat.example.org\r\n",
        b"From: alice@chat.example.org\r\nFrom: alice@chat.example.org\r\n",
    ],
)
def test_there_must_be_one_from_field_with_one_address(either, fields):
    message = messages.encrypted(ALICE, BOB).replace(f"From: <{ALICE}>\r\n".encode(), fields)
    assert either.mail(ALICE, BOB, message).startswith("500 Invalid FROM header: ")


def test_what_a_reply_quotes_cannot_break_it(outgoing):
    message = messages.encrypted('"\\\t<x>"@example.org', CAROL).replace(b"<x>", b"\xff" * 600)
    reply = outgoing.mail(ALICE, CAROL, message)
    assert reply.startswith("500 Invalid FROM ")
    assert reply.isprintable()
    assert len(reply) <= 510


@pytest.mark.parametrize(
    ("header", "text", "reply"),
    [
        ("vc-request", "secure-join: vc-request", "250 OK"),
        ("vg-request", "  Secure-Join: VG-Request  ", "250 OK"),
        ("vc-request", "secure-join: vg-request", "250 OK"),
        ("VC-REQUEST", "secure-join: vc-request", ENCRYPTION_NEEDED),
        ("vc-request-with-auth", "secure-join: vc-request", ENCRYPTION_NEEDED),
        ("vc-request", "secure-join: vc-request and more", ENCRYPTION_NEEDED),
        ("vc-request", "Hi!", ENCRYPTION_NEEDED),
        ("vc-request", "secure-join: vc-request" + " " * 2000, ENCRYPTION_NEEDED),
    ],
)
def test_a_securejoin_request_passes(either, header, text, reply):
    either.flag(BOB, "enforceE2EEincoming")
    assert either.mail(ALICE, BOB, messages.securejoin(ALICE, BOB, header=header, text=text)) == reply


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"text/plain", b"text/html"),
        (b"multipart/mixed", b"text/plain"),
        (b"\r\n\r\n--sample-boundary--", b"\r\n--sample-boundary\r\n\r\nHi!\r\n--sample-boundary--"),
        (b"--sample-boundary--\r\n", b"--sample-boundary--\r\nHi!\r\n"),
        (b"\r\n\r\n--sample", b"\r\n\r\nHi!\r\n--sample"),
    ],
)
def test_a_securejoin_request_of_another_structure_is_refused(outgoing, old, new):
    message = messages.securejoin(ALICE, CAROL)
    assert old in message
    assert outgoing.mail(ALICE, CAROL, message.replace(old, new, 1)) == ENCRYPTION_NEEDED


@pytest.mark.parametrize(
    "message",
    [
        messages.securejoin_single(ALICE, CAROL, "Secure-Join: vg-request\r\nHi!"),
        messages.securejoin_single(ALICE, CAROL, "Secure-Join: vg-request" + " " * 1000),
        messages.securejoin_single(ALICE, CAROL).replace(b"text/plain", b"text/html"),
        messages.securejoin_single(ALICE, CAROL).replace(b"Secure-Join: vg-request\r\n", b"", 1),
        messages.securejoin_single(ALICE, CAROL).replace(
            b"Secure-Join: vg-request\r\n", b"Secure-Join: vg-auth\r\n", 1
        ),
    ],
)
def test_a_securejoin_request_of_one_part_is_nothing_but_that(either, message):
    either.flag(CAROL, "enforceE2EEincoming")
    assert either.mail(ALICE, CAROL, message) == ENCRYPTION_NEEDED


def test_who_sends_pgp_mime_is_told_in_which_line_what_is_wrong(outgoing):
    message = messages.encrypted(ALICE, CAROL, preamble="Hi!\r\n")
    reply = outgoing.mail(ALICE, CAROL, message)
    assert reply == f"{ENCRYPTION_NEEDED} (line 10: text before the first part)"


def test_an_autocrypt_setup_message_passes_to_oneself_only(outgoing):
    message = messages.autocrypt_setup(ALICE, ALICE)
    assert outgoing.mail(ALICE, ALICE, message) == "250 OK"
    assert outgoing.mail(ALICE, ALICE.upper(), message) == "250 OK"
    assert outgoing.mail(ALICE, [ALICE, BOB], message) == ENCRYPTION_NEEDED
    assert outgoing.mail(ALICE, BOB, message) == ENCRYPTION_NEEDED
    assert outgoing.mail(ALICE, ALICE, message.replace(b"Setup Message\r\n", b"Setup\r\n", 1)) == ENCRYPTION_NEEDED
    assert outgoing.mail(ALICE, ALICE, message.replace(b"multipart/mixed", b"multipart/report")) == ENCRYPTION_NEEDED
    assert outgoing.mail(ALICE, ALICE, messages.plain(ALICE, ALICE)) == ENCRYPTION_NEEDED


def test_cleartext_passes_to_passthrough_recipients_only(start_filter):
    relay = start_filter("outgoing", passthrough_recipients="Privacy@example.org @x.y.z")

    def mail(*recipients: str) -> str:
        return relay.mail(ALICE, list(recipients), messages.plain(ALICE, recipients[0]))

    assert mail("privacy@example.org") == "250 OK"
    assert mail("PRIVACY@example.org", "privacy@x.y.z") == "250 OK"
    assert mail("privacy@example.org", CAROL) == ENCRYPTION_NEEDED
    assert mail("something@x.y", "privacy@x.y.z") == ENCRYPTION_NEEDED
    assert mail("something@sub.x.y.z") == ENCRYPTION_NEEDED
    assert mail("other@example.org") == ENCRYPTION_NEEDED


def test_passthrough_senders_send_cleartext_under_their_own_address(start_filter):
    relay = start_filter("outgoing", passthrough_senders=f"service@{DOMAIN} {ALICE}")
    assert relay.mail(ALICE, CAROL, messages.plain(ALICE, CAROL)) == "250 OK"
    assert relay.mail(BOB, CAROL, messages.plain(BOB, CAROL)) == ENCRYPTION_NEEDED
    assert relay.mail(ALICE, CAROL, messages.plain(BOB, CAROL)).startswith("500 Invalid FROM ")


def test_mail_from_and_to_disabled_addresses_vanishes(outgoing):
    outgoing.flag(ALICE, "DISABLED")
    assert outgoing.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL)) == "250 OK"
    assert outgoing.mail(ALICE, CAROL, messages.plain(ALICE, CAROL)) == ENCRYPTION_NEEDED
    assert outgoing.mail(BOB, ALICE, messages.encrypted(BOB, ALICE)) == "250 OK"
    assert outgoing.next.transactions == []
    assert outgoing.mail(BOB, [ALICE, CAROL], messages.encrypted(BOB, CAROL)) == "250 OK"
    assert outgoing.next.delivered[0].commands[2:-1] == [f"RCPT TO:<{CAROL}>".encode()]


# Incoming rules


@pytest.mark.parametrize(
    ("build", "author", "reply"),
    [
        (messages.encrypted, CAROL, "250 OK"),
        (messages.legacy_packets, CAROL, "250 OK"),
        (messages.partial_lengths, CAROL, "250 OK"),
        (messages.version_line, CAROL, "250 OK"),
        (messages.securejoin, CAROL, "250 OK"),
        (messages.securejoin_single, CAROL, "250 OK"),
        *((client, CAROL, "250 OK") for client in messages.CLIENTS.values()),
        (messages.bounce, "MAILER-DAEMON@example.net", "250 OK"),
        (messages.bounce, "mailer-daemon@example.net", "250 OK"),
        (messages.bounce, CAROL, ENCRYPTION_NEEDED),
        (messages.plain, "MAILER-DAEMON@example.net", ENCRYPTION_NEEDED),
        (messages.plain, CAROL, ENCRYPTION_NEEDED),
        (messages.fake_encrypted, CAROL, ENCRYPTION_NEEDED),
        (messages.literal, CAROL, ENCRYPTION_NEEDED),
        (messages.read_receipt, CAROL, ENCRYPTION_NEEDED),
        (messages.autocrypt_setup, CAROL, ENCRYPTION_NEEDED),
    ],
)
def test_a_fresh_address_receives_encrypted_mail_and_bounces_only(incoming, build, author, reply):
    incoming.flag(ALICE, "enforceE2EEincoming")
    message = build(author, ALICE)
    assert incoming.mail(author, ALICE, message).startswith(reply)
    assert [transaction.message for transaction in incoming.next.delivered] == [message] * (reply == "250 OK")


@pytest.mark.parametrize("value", [b"Auto-Submitted: \r\n", b""])
def test_a_bounce_says_that_it_is_automatic(incoming, value):
    incoming.flag(ALICE, "enforceE2EEincoming")
    message = messages.bounce("MAILER-DAEMON@example.net", ALICE).replace(b"Auto-Submitted: auto-replied\r\n", value)
    assert incoming.mail("", ALICE, message) == ENCRYPTION_NEEDED


def test_cleartext_reaches_an_address_whose_flag_was_removed(incoming):
    incoming.flag(ALICE, "enforceE2EEincoming")
    assert incoming.mail(CAROL, ALICE, messages.plain(CAROL, ALICE)) == ENCRYPTION_NEEDED
    (incoming.mail_dir / ALICE / "enforceE2EEincoming").unlink()
    assert incoming.mail(CAROL, ALICE, messages.plain(CAROL, ALICE)) == "250 OK"
    assert incoming.mail(CAROL, f"nobody@{DOMAIN}", messages.plain(CAROL, ALICE)) == "250 OK"


def test_one_protected_recipient_is_enough_to_refuse_cleartext(incoming):
    incoming.flag(ALICE, "enforceE2EEincoming")
    assert incoming.mail(CAROL, [BOB, ALICE], messages.plain(CAROL, BOB)) == ENCRYPTION_NEEDED


@pytest.mark.parametrize(
    "recipient",
    [
        f"alice+detail@{DOMAIN}",
        f"ALICE@{DOMAIN.upper()}",
        f"alice@{DOMAIN}.",
        f'"alice"@{DOMAIN}',
        f'"al\\ice+x"@{DOMAIN}',
        f'"alice@{DOMAIN}"@{DOMAIN}',
        f"alice%{DOMAIN}@{DOMAIN}",
        f"{DOMAIN}!alice@{DOMAIN}",
        f"@relay.example:alice@{DOMAIN}",
        f"../alice@{DOMAIN}",
        f"{'a' * 300}@{DOMAIN}",
        "alice",
    ],
)
def test_no_other_spelling_gets_around_the_flag(incoming, recipient):
    incoming.flag(ALICE, "enforceE2EEincoming")
    assert incoming.mail(CAROL, recipient, messages.plain(CAROL, ALICE)) == ENCRYPTION_NEEDED


OPERATOR = f"operator1@{DOMAIN}"


def reached(relay) -> list[bytes]:
    """The recipients of what was handed on last."""
    return [command for command in relay.next.delivered[-1].commands if command.startswith(b"RCPT")]


@pytest.mark.parametrize("role", ["postmaster", "Abuse", "abuse+x", '"postmaster"'])
def test_cleartext_to_a_role_reaches_the_operator(start_filter, role):
    relay = start_filter("incoming", operator_address=OPERATOR)
    relay.flag(OPERATOR, "enforceE2EEincoming")
    to = f"{role}@{DOMAIN}"
    assert relay.mail(CAROL, to, messages.plain(CAROL, to)) == "250 OK"
    assert reached(relay) == [f"RCPT TO:<{OPERATOR}>".encode()]


def test_cleartext_reaches_roles_alone(start_filter):
    relay = start_filter("incoming", operator_address=OPERATOR)
    relay.flag(ALICE, "enforceE2EEincoming")
    relay.flag(OPERATOR, "enforceE2EEincoming")
    role = f"postmaster@{DOMAIN}"
    for to in ([OPERATOR], [role, OPERATOR], [role, ALICE], [f"postmaster.x@{DOMAIN}", ALICE]):
        assert relay.mail(CAROL, to, messages.plain(CAROL, role)) == ENCRYPTION_NEEDED
    assert relay.mail(CAROL, [role, ALICE, f"abuse@{DOMAIN}"], messages.encrypted(CAROL, ALICE)) == "250 OK"
    assert reached(relay) == [f"RCPT TO:<{to}>".encode() for to in (ALICE, OPERATOR)]


def test_without_an_operator_roles_are_addresses_as_others(incoming):
    role = f"postmaster@{DOMAIN}"
    incoming.flag(role, "enforceE2EEincoming")
    assert incoming.mail(CAROL, role, messages.plain(CAROL, role)) == ENCRYPTION_NEEDED


def test_one_domain_does_not_flood_the_operator(start_filter):
    relay = start_filter("incoming", operator_address=OPERATOR)
    role = f"abuse@{DOMAIN}"
    replies = [relay.mail(CAROL, role, messages.plain(CAROL, role)) for _ in range(11)]
    assert replies[:10] == ["250 OK"] * 10
    assert replies[10].startswith("450 4.7.1: Too much mail")
    other = "someone@other.example"
    assert relay.mail(other, role, messages.plain(other, role)) == "250 OK"
    assert relay.mail(CAROL, ALICE, messages.encrypted(CAROL, ALICE)) == "250 OK"


def test_users_write_to_roles_of_their_relay_in_cleartext(start_filter):
    relay = start_filter("outgoing", operator_address=OPERATOR)
    assert relay.mail(ALICE, f"abuse@{DOMAIN}", messages.plain(ALICE, ALICE)) == "250 OK"
    assert reached(relay) == [f"RCPT TO:<{OPERATOR}>".encode()]
    for to in ([f"abuse@{DOMAIN}", CAROL], ["abuse@example.org"], [OPERATOR]):
        assert relay.mail(ALICE, to, messages.plain(ALICE, CAROL)) == ENCRYPTION_NEEDED


def test_a_sender_that_is_not_the_author_gets_no_bounce(incoming):
    message = messages.encrypted(CAROL, ALICE)
    for sender in ["CAROL@example.net", "SRS0=x=y=example.net=carol@forwarder.test", ""]:
        assert incoming.mail(sender, ALICE, message) == "250 OK"
    senders = [transaction.commands[1] for transaction in incoming.next.delivered]
    assert senders == [b"MAIL FROM:<CAROL@example.net>", b"MAIL FROM:<>", b"MAIL FROM:<>"]


def test_incoming_mail_to_disabled_addresses_vanishes(incoming):
    incoming.flag(ALICE, "DISABLED")
    assert incoming.mail(CAROL, f"alice+x@{DOMAIN}", messages.encrypted(CAROL, ALICE)) == "250 OK"
    assert incoming.next.transactions == []
    assert incoming.mail(CAROL, [ALICE, BOB], messages.encrypted(CAROL, BOB)) == "250 OK"
    assert incoming.next.delivered[0].commands[2:-1] == [f"RCPT TO:<{BOB}>".encode()]


@pytest.mark.parametrize("recipient", ["alice", f'"alice"@{DOMAIN}', f'"\\alice+x"@{DOMAIN}', f"Alice@{DOMAIN}."])
def test_no_other_spelling_reaches_a_disabled_address(incoming, recipient):
    incoming.flag(ALICE, "DISABLED")
    assert incoming.mail(CAROL, recipient, messages.encrypted(CAROL, ALICE)) == "250 OK"
    assert incoming.next.transactions == []


@pytest.mark.parametrize(
    ("author", "client"), [("one@[192.0.2.0]", "192.0.2.0"), ("one@[IPv6:2001:db8::1]", "IPV6:2001:DB8:0::1")]
)
def test_an_author_at_a_literal_is_accepted_from_that_address_alone(incoming, author, client):
    message = messages.encrypted(author, ALICE)
    peer = incoming.client()
    assert peer.command(f"XFORWARD ADDR={client}") == "250 OK"
    assert peer.mail(author, ALICE, message) == "250 OK"
    assert incoming.next.delivered[0].commands[1] == f"MAIL FROM:<{author}>".encode()
    for other in ("192.0.2.9", "IPV6:2001:db8::9"):
        peer.command(f"XFORWARD ADDR={other}")
        assert peer.mail(author, ALICE, message) == "554 5.7.1 The domain of From is not the address of the client"
    peer.command("XFORWARD ADDR=[UNAVAILABLE]")
    assert peer.mail(author, ALICE, message).startswith("451 4.7.5 ")
    assert incoming.mail(author, ALICE, message).startswith("451 4.7.5 ")
    assert len(incoming.next.delivered) == 1


def test_an_author_at_a_literal_sends_nothing_readable(incoming):
    """Whatever the mailbox allows others."""
    author = "one@[192.0.2.0]"
    peer = incoming.client()
    peer.command("XFORWARD ADDR=192.0.2.0")
    for build in (messages.plain, messages.read_receipt, messages.autocrypt_setup):
        assert peer.mail(author, ALICE, build(author, ALICE)) == ENCRYPTION_NEEDED
    assert peer.mail(author, ALICE, messages.securejoin(author, ALICE)) == "250 OK"
    daemon = "MAILER-DAEMON@[192.0.2.0]"
    assert peer.mail("", ALICE, messages.bounce(daemon, ALICE)) == (
        "554 5.7.1 The bounce does not return a message of its recipient"
    )


@pytest.mark.parametrize("author", ["a@[_one.test]", f"a@[{DOMAIN}]", "a@[127.1]", "a@[2001:db8::1]"])
def test_a_literal_of_anything_but_an_address_is_refused(incoming, author):
    peer = incoming.client()
    peer.command("XFORWARD ADDR=127.0.0.1")
    reply = peer.mail(author, ALICE, messages.encrypted(author, ALICE))
    assert reply.startswith(("500 Invalid FROM header: ", "554 5.7.1 "))


def test_the_relays_own_literal_is_refused_from_its_own_address_too(start_filter):
    relay = start_filter("incoming", mail_domain="192.0.2.7")
    peer = relay.client()
    peer.command("XFORWARD ADDR=192.0.2.7")
    author, reader = "alice@[192.0.2.7]", "bob@[192.0.2.7]"
    reply = peer.mail(author, reader, messages.encrypted(author, reader))
    assert reply == "554 5.7.1 The author is of this relay, whose users log in to send"
    peer.command("XFORWARD ADDR=192.0.2.8")
    relay.flag(reader, "enforceE2EEincoming")
    assert peer.mail("x@[192.0.2.8]", reader, messages.encrypted("x@[192.0.2.8]", reader)) == "250 OK"


def test_between_relays_without_a_name_no_bounce_is_made_and_unknown_addresses_are_refused(start_filter):
    """They refuse each other's bounces, which nobody signs; the author's own relay can tell of what is refused."""
    relay = start_filter("incoming", mail_domain="192.0.2.7")
    author, reader, unknown = "one@[192.0.2.0]", "bob@[192.0.2.7]", "nobody@[192.0.2.7]"
    relay.flag(reader, "enforceE2EEincoming")
    peer = relay.client()
    peer.command("XFORWARD ADDR=192.0.2.0")
    message = messages.encrypted(author, reader)
    assert peer.mail(author, unknown, message) == f"550 5.1.1 <{unknown}>: no such address here"
    # By SMTP a message is taken for all or for none.
    assert peer.mail(author, [unknown, reader], message) == "250 OK"
    assert peer.mail(author, "Bob+x@[192.0.2.7]", message) == "250 OK"
    assert [transaction.commands[1] for transaction in relay.next.delivered] == [b"MAIL FROM:<>"] * 2


def test_a_named_relay_leaves_unknown_addresses_to_the_mailboxes_and_its_bounces_arrive(incoming):
    author = "one@[192.0.2.0]"
    peer = incoming.client()
    peer.command("XFORWARD ADDR=192.0.2.0")
    unknown = f"nobody@{DOMAIN}"
    assert peer.mail(author, unknown, messages.encrypted(author, unknown)) == "250 OK"
    assert incoming.next.delivered[0].commands[1] == f"MAIL FROM:<{author}>".encode()


def test_the_client_is_told_by_xforward(incoming):
    client = incoming.client()
    client.command("EHLO mail")
    for good in ("ADDR=192.0.2.1", "addr=IPV6:2001:db8::1", "ADDR=[UNAVAILABLE]", "ADDR=[unavailable]"):
        assert client.command(f"XFORWARD {good}") == "250 OK"
    for bad in (
        "",
        "ADDR",
        "ADDR=",
        "ADDR=x",
        "ADDR=2001:db8::1",
        "NAME=x",
        "ADDR=192.0.2.1 NAME=x",
        "ADDR=192.0.2.01",
    ):
        assert client.command(f"XFORWARD {bad}").startswith("501 5.5.4 ")
    client.command(f"MAIL FROM:<{CAROL}>")
    assert client.command("XFORWARD ADDR=192.0.2.1").startswith("503 5.5.1 ")


def test_a_flag_that_cannot_be_looked_at_is_a_temporary_failure(incoming):
    incoming.flag(ALICE, "enforceE2EEincoming")
    (incoming.mail_dir / ALICE / "DISABLED").symlink_to("x" * 256)
    assert incoming.mail(CAROL, ALICE, messages.encrypted(CAROL, ALICE)) == "451 Local error"
    assert incoming.next.transactions == []


# Handing on


@pytest.mark.parametrize(
    ("step", "answer", "reply"),
    [
        ("CONNECT", b"421 4.3.2 busy\r\n", f"421 4.3.2 busy {FORWARDED}"),
        ("EHLO", b"502 no\r\n", f"502 no {FORWARDED}"),
        ("MAIL", b"451 4.3.0 later\r\n", f"451 4.3.0 later {FORWARDED}"),
        ("RCPT", b"550 5.1.1 unknown\r\n", f"550 5.1.1 unknown {FORWARDED}"),
        ("DATA", b"554 5.5.1 no valid recipients\r\n", f"554 5.5.1 no valid recipients {FORWARDED}"),
        (".", b"554 5.7.1 No DKIM signature found\r\n", f"554 5.7.1 No DKIM signature found {FORWARDED}"),
        (".", b"554-5.7.1 one\r\n554-two\r\n554 three\r\n", f"554 5.7.1 one two three {FORWARDED}"),
        (".", b"554\r\n", f"554  {FORWARDED}"),
        (".", b"554 \xff\t\r\n", f"554 ? {FORWARDED}"),
        ("MAIL", b"354 what\r\n", "451 Local error"),
        ("RCPT", b"220 what\r\n", "451 Local error"),
        ("DATA", b"250 what\r\n", "451 Local error"),
        (".", b"354 what\r\n", "451 Local error"),
        (".", b"251 what\r\n", "451 Local error"),
        ("CONNECT", b"", "451 I/O error"),
        ("MAIL", b"", "451 I/O error"),
        (".", b"", "451 I/O error"),
        (".", b"hello\r\n", "451 I/O error"),
        (".", b"250-" + b"x" * 200_000, "451 I/O error"),
        (".", b"250-x\r\n" * 1000, "451 I/O error"),
    ],
)
def test_any_answer_but_success_is_a_refusal(outgoing, step, answer, reply):
    outgoing.next.replies[step] = answer
    client = outgoing.client()
    assert client.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL)) == reply
    assert outgoing.next.delivered == []
    outgoing.next.replies.clear()
    assert client.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL)) == "250 OK"


@pytest.mark.parametrize("extensions", [b"250-next.test\r\n250 PIPELINING\r\n", b"250 next.test\r\n"])
def test_a_message_goes_to_all_recipients_or_to_none(outgoing, extensions):
    outgoing.next.replies["EHLO"] = extensions
    outgoing.next.replies[f"RCPT TO:<{BOB}>"] = b"550 5.1.1 unknown\r\n"
    message = messages.encrypted(ALICE, CAROL)
    assert outgoing.mail(ALICE, [CAROL, BOB, CAROL], message) == f"550 5.1.1 unknown {FORWARDED}"
    assert outgoing.next.delivered == []
    outgoing.next.replies.pop(f"RCPT TO:<{BOB}>")
    assert outgoing.mail(ALICE, [CAROL, BOB, CAROL], message) == "250 OK"
    assert outgoing.next.delivered[0].commands[2:5] == [
        f"RCPT TO:<{recipient}>".encode() for recipient in (CAROL, BOB, CAROL)
    ]


def test_no_next_server_is_a_temporary_failure(start_filter):
    relay = start_filter("outgoing", postfix_reinject_port=free_port())
    assert relay.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL)).startswith("450 ")


def test_a_next_server_that_hangs_does_not_hold_up_other_messages(outgoing):
    outgoing.next.replies[f"MAIL FROM:<{ALICE}>"] = HANG
    hanging = outgoing.client()
    hanging.begin(ALICE, CAROL)
    hanging.send(messages.encrypted(ALICE, CAROL) + b".\r\n")
    for _ in range(3):
        assert outgoing.mail(BOB, CAROL, messages.encrypted(BOB, CAROL)) == "250 OK"


def test_messages_sent_at_the_same_time_are_each_delivered_once(outgoing):
    sent = [messages.encrypted(ALICE, CAROL) for _ in range(200)]
    replies = []

    def send(share: list[bytes]) -> None:
        client = outgoing.client()
        replies.extend(client.mail(ALICE, CAROL, message) for message in share)

    threads = [threading.Thread(target=send, args=(sent[start::20],)) for start in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert replies == ["250 OK"] * 200
    assert sorted(transaction.message for transaction in outgoing.next.delivered) == sorted(sent)


# The service


def test_the_log_counts_mail_and_names_no_user(start_filter):
    outgoing = start_filter("outgoing")
    outgoing.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL))
    outgoing.mail(ALICE, CAROL, messages.plain(ALICE, CAROL))
    outgoing.terminate()
    assert outgoing.wait() == [
        "Outgoing: Filtering encrypted mail.",
        "Outgoing: Filtering unencrypted mail.",
        "Rejected unencrypted mail",
    ]
    incoming = start_filter("incoming")
    incoming.flag(ALICE, "enforceE2EEincoming")
    incoming.mail(CAROL, ALICE, messages.encrypted(CAROL, ALICE))
    incoming.mail(CAROL, ALICE, messages.plain(CAROL, ALICE))
    incoming.mail("", ALICE, messages.bounce("MAILER-DAEMON@example.net", ALICE))
    incoming.terminate()
    assert incoming.wait() == [
        "Incoming: Filtering encrypted mail.",
        "Incoming: Filtering unencrypted mail.",
        "Rejected unencrypted mail",
        "Incoming: Filtering mailer-daemon message from MAILER-DAEMON@example.net",
    ]


def test_an_open_transaction_ends_before_the_service_does(start_filter):
    outgoing = start_filter("outgoing")
    done, busy, silent = outgoing.client(), outgoing.client(), outgoing.client()
    message = messages.encrypted(ALICE, CAROL)
    assert done.mail(ALICE, CAROL, message) == "250 OK"
    busy.begin(ALICE, CAROL)
    busy.send(message[:500])
    outgoing.terminate()
    assert done.reply() == "421 4.3.2 Service shutting down"
    # It has been about to begin for too long.
    assert silent.reply() == "421 4.3.2 Service shutting down"
    busy.send(message[500:] + b".\r\n")
    assert busy.reply() == "250 OK"
    assert busy.reply() == "421 4.3.2 Service shutting down"
    assert outgoing.wait() == ["Outgoing: Filtering encrypted mail."] * 2
    assert [transaction.message for transaction in outgoing.next.delivered] == [message] * 2


def test_whoever_has_connected_before_the_end_is_served(start_filter):
    outgoing = start_filter("outgoing")
    client, idle = outgoing.client(), outgoing.client()
    outgoing.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL))
    outgoing.terminate()
    assert client.command("EHLO client").endswith("250 OK")
    assert client.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL)) == "250 OK"
    assert client.reply() == idle.reply() == "421 4.3.2 Service shutting down"


def test_a_service_without_connections_ends(start_filter):
    incoming = start_filter("incoming")
    incoming.terminate()
    assert incoming.wait() == []


def test_memory_is_given_back(outgoing):
    client = outgoing.client()
    for _ in range(200):
        assert client.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL)) == "250 OK"
    before = outgoing.resident_kib()
    for _ in range(1000):
        assert client.mail(BOB, CAROL, messages.encrypted(BOB, CAROL)) == "250 OK"
    assert outgoing.resident_kib() - before < 512


def test_memory_of_connections_is_given_back(start_filter):
    relay = start_filter("outgoing")

    def connect(times: int) -> int:
        for _ in range(times):
            client = Client(relay.port)
            assert client.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL)) == "250 OK"
            client.close()
        return relay.resident_kib()

    before = connect(300)
    assert connect(800) - before < 1024


def test_memory_of_a_message_is_given_back_when_its_client_leaves(start_filter):
    relay = start_filter("outgoing")
    relay.next.replies["."] = HANG
    message = messages.encrypted(ALICE, CAROL, payload=messages.encrypted_payload(3_000_000))

    def leave(times: int) -> int:
        for _ in range(times):
            relay.next.message_began.clear()
            client = Client(relay.port)
            client.begin(ALICE, CAROL)
            client.send(message + b".\r\n")
            assert relay.next.message_began.wait(TIMEOUT_S)
            client.close()
        # One dialogue from end to end, after which the last one has ended too.
        assert relay.client().command("NOOP") == "250 OK"
        return relay.resident_kib()

    before = leave(2)
    assert leave(6) - before < 2 * len(message) / 1024


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--help"], 0, "outgoing"),
        ([], 2, "usage"),
        (["/nonexistent.ini", "outgoing"], 1, "/nonexistent.ini"),
        (["/nonexistent.ini", "sideways"], 2, "sideways"),
    ],
)
def test_the_command_line_explains_itself(run_service, arguments, status, text):
    result = run_service("chatmaild.filtermail", *arguments)
    assert result.returncode == status
    assert text in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("role", "number"), [("outgoing", 1), ("incoming", 2)])
def test_without_its_sockets_it_says_how_to_start_it(run_service, write_config, role, number):
    result = run_service("chatmaild.filtermail", write_config(), role)
    assert result.returncode == 1
    assert f"systemd passed 0 sockets, not {number}" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("setting", "value"), [("max_message_size", "big"), ("postfix_host", "no such host"), ("passthrough_senders", "x")]
)
def test_a_wrong_setting_ends_the_service_with_its_name(run_service, write_config, setting, value):
    result = run_service("chatmaild.filtermail", write_config(**{setting: value}), "outgoing", sockets=1)
    assert result.returncode == 1
    assert f"{setting} is {value!r}" in result.stderr
    assert "Traceback" not in result.stderr


def test_running_out_of_descriptors_passes(start_filter):
    relay = start_filter("outgoing")
    pid = relay.process.pid
    in_use = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (in_use + 4, in_use + 4))
    client = relay.client()
    with contextlib.ExitStack() as crowd:
        for _ in range(8):
            crowd.enter_context(socket.create_connection(("127.0.0.1", relay.port)))
        assert client.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL)).startswith("450 ")
    assert relay.mail(ALICE, CAROL, messages.encrypted(ALICE, CAROL)) == "250 OK"
