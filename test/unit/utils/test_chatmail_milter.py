"""What a milter adds, asked at one that runs on a socket of the test's own."""

import getpass
import socketserver
import struct
import threading

import pytest

import chatmail_milter

MESSAGE = "From: a@chat.test\r\nTo: b@chat.test\r\n\r\nbody\r\n"
ADDED = b"i" + struct.pack("!I", 0) + b"DKIM-Signature\0v=1; b=x\0"


class Milter(socketserver.ThreadingUnixStreamServer):
    """Answers each command with ``answers``, and the end of the message with ``end``; keeps what it is told."""

    daemon_threads = True

    def __init__(self, path, omitted=0, end=(ADDED, b"a"), answer=b"c"):
        self.omitted, self.end, self.answer, self.told = omitted, end, answer, []
        super().__init__(str(path), _Session)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Session(socketserver.StreamRequestHandler):
    def handle(self):
        while head := self.rfile.read(4):
            packet = self.rfile.read(*struct.unpack("!I", head))
            self.server.told.append(packet)
            if packet[:1] == b"O":
                self.say(b"O" + struct.pack("!III", 6, 1, self.server.omitted))
            elif packet[:1] == b"E":
                for answer in self.server.end:
                    self.say(answer)
            elif packet[:1] != b"Q":
                self.say(self.server.answer)

    def say(self, packet):
        self.wfile.write(struct.pack("!I", len(packet)) + packet)


@pytest.fixture
def ask(tmp_path):
    servers = []

    def ask(**behaviour):
        servers.append(Milter(tmp_path / "milter.sock", **behaviour))
        path = str(tmp_path / "milter.sock")
        return chatmail_milter.added_fields(path, getpass.getuser(), "a@chat.test", "b@chat.test", MESSAGE)

    ask.servers = servers
    yield ask
    for server in servers:
        server.shutdown()
        server.server_close()


def test_fields_that_are_added_are_returned(ask):
    assert ask() == [("DKIM-Signature", "v=1; b=x")]
    assert b"".join(packet[:1] for packet in ask.servers[0].told).startswith(b"OCHMRLLNBE")
    assert b"LFrom\0a@chat.test\0" in ask.servers[0].told
    assert b"Bbody\r\n" in ask.servers[0].told


def test_steps_that_the_milter_does_not_want_are_left_out(ask):
    assert ask(omitted=0x7F) == [("DKIM-Signature", "v=1; b=x")]
    assert [packet[:1] for packet in ask.servers[0].told][:2] == [b"O", b"E"]


def test_a_milter_that_adds_nothing_is_no_error(ask):
    assert ask(end=(b"a",)) == []


@pytest.mark.parametrize("behaviour", [{"answer": b"t"}, {"end": (b"t",)}])
def test_a_milter_that_fails_says_so(ask, behaviour):
    with pytest.raises(chatmail_milter.MilterError, match="fails for now"):
        ask(**behaviour)


def test_a_socket_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(chatmail_milter.MilterError, match=r"cannot use .*none: No such file"):
        chatmail_milter.added_fields(str(tmp_path / "none"), getpass.getuser(), "a", "b", MESSAGE)
