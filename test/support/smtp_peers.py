"""The filter's neighbours: a client that sends any octets, and a next server that keeps them and can misbehave."""

import contextlib
import socket
import socketserver
import threading
from dataclasses import dataclass, field

TIMEOUT_S = 20.0
HANG = b"hang"


class Client:
    """An SMTP client that adds and checks nothing."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._replies = self._socket.makefile("rb")
        self.banner = self.reply()

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def reply(self) -> str:
        """The next reply, its lines as they came; empty at the end of file."""
        lines = []
        while line := self._replies.readline().decode():
            lines.append(line)
            if line[3:4] != "-":
                break
        return "".join(lines).removesuffix("\r\n")

    def command(self, line: str) -> str:
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def begin(self, sender: str, *recipients: str) -> None:
        """Do everything before the message, which must succeed."""
        assert self.command(f"MAIL FROM:<{sender}>") == "250 OK"
        for recipient in recipients:
            assert self.command(f"RCPT TO:<{recipient}>") == "250 OK"
        assert self.command("DATA").startswith("354 ")

    def mail(self, sender: str, recipients: str | list[str], message: bytes) -> str:
        """Send one message; returns the reply to it."""
        self.begin(sender, *([recipients] if isinstance(recipients, str) else recipients))
        stuffed = message.replace(b"\r\n.", b"\r\n..")
        self.send((b"." if message.startswith(b".") else b"") + stuffed + b".\r\n")
        return self.reply()

    def shut_down_writing(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._replies.close()
        self._socket.close()


@dataclass
class Transaction:
    """What a next server was given."""

    commands: list[bytes] = field(default_factory=list)  # without QUIT, which comes after the answer
    wire: bytes | None = None  # between 354 and the final dot

    @property
    def message(self) -> bytes:
        """The message with dot-stuffing undone."""
        lines = self.wire.splitlines(keepends=True)
        return b"".join(line.removeprefix(b".") for line in lines)


class NextServer(socketserver.ThreadingTCPServer):
    """Takes all mail and remembers it.

    `replies` replaces the reply to a command: the key is a whole line, a verb, ``CONNECT`` or ``.`` for the end of the
    message; the value is what is sent, empty to close the connection, HANG to never answer.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _NextSession)
        self.port = self.server_address[1]
        self.transactions: list[Transaction] = []
        self.replies: dict[str, bytes] = {}
        self.message_began = threading.Event()
        self.stopped = threading.Event()

    @property
    def delivered(self) -> list[Transaction]:
        return [transaction for transaction in self.transactions if transaction.wire is not None]

    def reply_to(self, line: str, usual: bytes) -> bytes:
        reply = self.replies.get(line, self.replies.get(line.partition(" ")[0], usual))
        if reply == HANG:
            self.stopped.wait(TIMEOUT_S)
            return b""
        return reply


class _NextSession(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            self._serve()

    def _serve(self) -> None:
        transaction = Transaction()
        self.server.transactions.append(transaction)
        if not self._answer("CONNECT", b"220 next.test ESMTP\r\n"):
            return
        while line := self.rfile.readline().decode("utf-8", "surrogateescape").removesuffix("\r\n"):
            if line == "QUIT":
                break
            transaction.commands.append(line.encode("utf-8", "surrogateescape"))
            verb = line.partition(" ")[0]
            match verb:
                case "EHLO":
                    usual = b"250-next.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
                case "DATA":
                    usual = b"354 go on\r\n"
                case _:
                    usual = b"250 2.0.0 done\r\n"
            reply = self._answer(line, usual)
            if not reply:
                return
            if verb == "DATA" and reply.startswith(b"354") and not self._message(transaction):
                return

    def _message(self, transaction: Transaction) -> bool:
        self.server.message_began.set()
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return False
            lines.append(line)
        reply = self.server.reply_to(".", b"250 2.0.0 queued\r\n")
        if reply.startswith(b"250 "):
            transaction.wire = b"".join(lines)
        self.wfile.write(reply)
        return bool(reply)

    def _answer(self, line: str, usual: bytes) -> bytes:
        reply = self.server.reply_to(line, usual)
        self.wfile.write(reply)
        return reply


@contextlib.contextmanager
def next_server():
    """A NextServer, running."""
    with NextServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join(TIMEOUT_S)


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
