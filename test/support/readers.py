"""Other programs that read the messages which our filter reads: whom they name as the author, what they show.

Python's email package in both its ways, OpenDKIM's library as the relay has it, Dovecot, and Delta Chat's core, which
gets its mail from that Dovecot. A reader that cannot read a message names nobody and shows nothing.
"""

import contextlib
import ctypes
import email
import email.message
import email.policy
import email.utils
import imaplib
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from chatmaild.echobot import Core
from chatmaild.message import mime
from chatmaild.smtp.data import stuff, unstuff
from test.support.smtp_peers import free_port
from test.support.waiting import wait_until

ADDRESS = "reader@_oracle.test"
RPC_SERVER = Path(__file__).parents[2] / ".venv/bin/deltachat-rpc-server"
PATIENCE_S = 60

Authors = set[bytes]


def python_authors(message: bytes) -> Authors:
    """Whom Python names: compat32 with `getaddresses`, strict and not, and the header registry."""
    return _compat32(message) | _header_registry(message)


def _compat32(message: bytes) -> Authors:
    values = [str(value) for value in email.message_from_bytes(message).get_all("from", [])]
    named = email.utils.getaddresses(values)
    with contextlib.suppress(TypeError):  # Python before 3.11.10 without Debian's patch has one way
        named += email.utils.getaddresses(values, strict=False)
    return _addresses(address for _, address in named)


def _header_registry(message: bytes) -> Authors:
    try:
        fields = email.message_from_bytes(message, policy=email.policy.default).get_all("from", [])
        return _addresses(address.addr_spec for field in fields for address in field.addresses)
    except (AttributeError, IndexError, TypeError, ValueError):  # it has faults, and names nobody then
        return set()


def _addresses(found: Iterator[str]) -> Authors:
    return {address.encode("utf-8", "surrogateescape") for address in found if address not in ("", "<>")}


class OpenDkim:
    """OpenDKIM's own reader of From (dkim_mail_parse in libopendkim), which the daemon calls with milter's value."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libopendkim.so.11")

    def authors(self, value: bytes) -> Authors:
        """Whom it names for a From field; `value` is what follows the colon, folded by CRLF.

        Postfix hands a milter the value without its first space, and lines that end in LF.
        """
        line = ctypes.create_string_buffer(value.removeprefix(b" ").replace(b"\r\n", b"\n"))
        user, domain = ctypes.c_char_p(), ctypes.c_char_p()
        failed = self._library.dkim_mail_parse(line, ctypes.byref(user), ctypes.byref(domain))
        if failed or user.value is None or domain.value is None:
            return set()
        return {user.value + b"@" + domain.value}


def python_structures(message: bytes) -> list[list[str]]:
    """The content types of the message and of all its parts, in order, by either policy of Python's."""
    roots = [
        email.message_from_bytes(message, policy=policy) for policy in (email.policy.compat32, email.policy.default)
    ]
    return [[part.get_content_type() for part in root.walk()] for root in roots]


class Dovecot:
    """Dovecot as IMAP server of one mailbox, on loopback; it asks for no password."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._mail = directory / "mail"
        for name in ("cur", "new", "tmp"):
            (self._mail / name).mkdir(parents=True)
        for path in (directory, self._mail, *self._mail.iterdir()):
            shutil.chown(path, "mail", "mail")
        configuration = directory / "dovecot.conf"
        configuration.write_text(
            f"base_dir = {directory}/run\nstate_dir = {directory}/state\nlog_path = {directory}/log\n"
            "protocols = imap\nlisten = 127.0.0.1\nssl = no\ndisable_plaintext_auth = no\n"
            f"mail_location = maildir:{self._mail}\nmail_uid = mail\nmail_gid = mail\nfirst_valid_uid = 8\n"
            f"service imap-login {{\n inet_listener imap {{\n port = {self.port}\n }}\n"
            " inet_listener imaps {\n port = 0\n }\n}\n"
            f"passdb {{\n driver = static\n args = nopassword=y\n}}\n"
            f"userdb {{\n driver = static\n args = home={directory}/home\n}}\n"
        )
        self._process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", configuration])
        wait_until(self._is_up)
        self._delivered = 0

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), PATIENCE_S):
            return True
        return False

    def deliver(self, messages: Sequence[bytes]) -> None:
        """Put messages into the mailbox, as they are."""
        for message in messages:
            self._delivered += 1
            file = self._mail / "tmp" / f"1.M{self._delivered:06}.oracle"
            file.write_bytes(message)
            shutil.chown(file, "mail", "mail")
            file.rename(self._mail / "new" / file.name)

    def structures(self, messages: Sequence[bytes]) -> list[bytes]:
        """The BODYSTRUCTURE of each message (RFC 9051 section 7.5.2), in their order."""
        with imaplib.IMAP4("127.0.0.1", self.port) as client:
            client.login(ADDRESS, "x")
            self.deliver(messages)
            client.select()
            _, found = client.fetch(f"{self._delivered - len(messages) + 1}:*", "(BODYSTRUCTURE)")
        pieces = (b"".join(piece) if isinstance(piece, tuple) else piece for piece in found)
        # Literals cut an answer into pieces.
        return re.split(rb"(?m)^(?=\d+ \(BODYSTRUCTURE)", b"\n".join(pieces))[1:]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)


class DeltaChat:
    """Delta Chat's core with one account at `Dovecot`."""

    def __init__(self, directory: Path, dovecot: Dovecot) -> None:
        self._dovecot = dovecot
        self._submission = Controller(
            object(),
            hostname="127.0.0.1",
            port=free_port(),
            auth_require_tls=False,
            authenticator=lambda *_: AuthResult(success=True),
        )
        self._submission.start()
        self._core = Core(str(RPC_SERVER), directory)
        self._account = self._core.call("add_account")
        # A bot shows messages of strangers without being asked; cleartext is otherwise not even fetched.
        settings = {"mdns_enabled": "0", "bcc_self": "0", "bot": "1", "force_encryption": "0"}
        server = {"addr": ADDRESS, "password": "x", "certificateChecks": "acceptInvalidCertificates"}
        for protocol, port in (("imap", dovecot.port), ("smtp", self._submission.port)):
            server |= {f"{protocol}Server": "127.0.0.1", f"{protocol}Port": port, f"{protocol}Security": "plain"}
        self._core.call("batch_set_config", self._account, settings)
        self._core.call("add_or_update_transport", self._account, server)
        self._core.call("start_io", self._account)
        self._seen: set[int] = set()
        # What is there before the first look at the mailbox is history, and not fetched.
        wait_until(lambda: self._core.call("get_connectivity", self._account) >= 4000)
        self._markers = 0
        self._await_marker()

    def shown(self, messages: Sequence[bytes]) -> list[dict]:
        """What the core shows of `messages`: its JSON for each, in no order; what it cannot read is missing."""
        self._dovecot.deliver(messages)
        return self._await_marker()

    def _await_marker(self) -> list[dict]:
        """Deliver one more message and wait until it is shown; more than one while the first look is under way."""
        self._markers += 1
        subject = f"marker {self._markers}"
        shown: list[dict] = []

        def found() -> bool:
            for number in self._core.call("get_fresh_msgs", self._account):
                if number not in self._seen:
                    self._seen.add(number)
                    shown.append(self._core.call("get_message", self._account, number))
            return any(message["text"].endswith(subject) for message in shown)

        for _ in range(10):
            self._dovecot.deliver([message_from(b" marker@oracle.test", subject)])
            with contextlib.suppress(TimeoutError):
                wait_until(found, patience_s=3 if self._markers == 1 else PATIENCE_S)
                break
        else:
            raise TimeoutError("the core shows no message")
        return [message for message in shown if "marker " not in message["text"] and message["fromId"] > 9]

    def close(self) -> None:
        self._core._process.kill()
        self._submission.stop()


@contextlib.contextmanager
def dovecot() -> Iterator[Dovecot]:
    """A running `Dovecot`; its files are in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        server = Dovecot(Path(directory))
        try:
            yield server
        finally:
            server.close()


@contextlib.contextmanager
def delta_chat() -> Iterator[DeltaChat]:
    """A running `DeltaChat` with a `Dovecot`; its files are in memory, for it writes to disk after each message."""
    with dovecot() as server, tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        core = DeltaChat(Path(directory) / "core", server)
        try:
            yield core
        finally:
            core.close()


def received(message: bytes) -> mime.Entity:
    """`message` as the filter gets it; MalformedMessage and InvalidData where it goes no further."""
    return mime.parse(unstuff(stuff(message)))


def message_from(value: bytes, text: str) -> bytes:
    """A readable message whose From field goes on with `value` after the colon; lines end in CRLF."""
    return (
        b"From:"
        + value
        + f"\r\nTo: {ADDRESS}\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nChat-Version: 1.0\r\n"
        f"Message-ID: <{text.replace(' ', '-')}@oracle.test>\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/plain\r\n\r\n{text}\r\n".encode()
    )
