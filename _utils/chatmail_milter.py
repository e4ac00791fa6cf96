"""
Asking a milter what it adds to a message, as Postfix asks it (the milter protocol, libmilter/mfdef.h of Sendmail).
"""

import contextlib
import os
import pwd
import socket
import struct

TIMEOUT_S = 20

_VERSION = 6
_ALL_ACTIONS = 0x1FF
# Steps that a milter may want to leave out (SMFIP_NO...); all others are answered.
_NO_CONNECT, _NO_HELO, _NO_MAIL, _NO_RCPT, _NO_BODY, _NO_HEADERS, _NO_END_OF_HEADER = (1 << bit for bit in range(7))
_CONTINUE, _ACCEPT = b"c", b"a"
_ADD_HEADER, _INSERT_HEADER = b"h", b"i"
_FINAL = b"acdrty"


class MilterError(Exception):
    """The milter cannot be asked, or does not let the message pass; the text says why."""


@contextlib.contextmanager
def _as_user(name):
    """Have the rights of a user until the end of the block; root's come back then."""
    user = pwd.getpwnam(name)
    own = os.geteuid(), os.getegid(), os.getgroups()
    os.setgroups(os.getgrouplist(name, user.pw_gid))
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(own[0])
        os.setegid(own[1])
        os.setgroups(own[2])


def added_fields(path, user, sender, recipient, message):
    """
    Return the header fields that the milter at ``path`` (socket) adds to ``message``, as (name, value).

    Arguments: ``user`` is who connects, by name, such as Postfix's; ``sender`` and ``recipient`` are addresses;
    ``message`` is text whose header fields have a line each. Raises :class:`MilterError`.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        try:
            with _as_user(user):
                connection.connect(path)
            return _dialogue(connection, sender, recipient, message)
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if isinstance(error, PermissionError):
                # In strerror's words, salt-ssh would take it for ssh's own failure, and give no result.
                reason = "it may not"
            raise MilterError(f"{user} cannot use {path}: {reason}") from error


def _dialogue(connection, sender, recipient, message):
    _send(connection, b"O", struct.pack("!III", _VERSION, _ALL_ACTIONS, (1 << 7) - 1))
    code, options = _receive(connection)
    if code != b"O":
        raise MilterError("the milter does not negotiate")
    omitted = struct.unpack("!III", options[:12])[2]
    header, _, body = message.partition("\r\n\r\n")
    fields = [field.partition(":")[::2] for field in header.split("\r\n")]
    for flag, step, values in (
        (_NO_CONNECT, b"C", [b"localhost\0004" + struct.pack("!H", 25) + b"127.0.0.1\0"]),
        (_NO_HELO, b"H", [b"localhost\0"]),
        (_NO_MAIL, b"M", [f"<{sender}>\0".encode()]),
        (_NO_RCPT, b"R", [f"<{recipient}>\0".encode()]),
        (_NO_HEADERS, b"L", [f"{name}\0{value.strip()}\0".encode() for name, value in fields]),
        (_NO_END_OF_HEADER, b"N", [b""]),
        (_NO_BODY, b"B", [body.encode()]),
    ):
        for value in [] if omitted & flag else values:
            _send(connection, step, value)
            code, _ = _receive(connection)
            if code == _ACCEPT:
                return []
            if code != _CONTINUE:
                raise MilterError(_refusal(code))
    _send(connection, b"E", b"")
    added = []
    while (answer := _receive(connection))[0] not in _FINAL:
        code, data = answer
        if code in (_ADD_HEADER, _INSERT_HEADER):
            name, value = data[4 * (code == _INSERT_HEADER) :].rstrip(b"\0").split(b"\0", 1)
            added.append((name.decode(), value.decode()))
    if answer[0] not in (_CONTINUE, _ACCEPT):
        raise MilterError(_refusal(answer[0]))
    _send(connection, b"Q", b"")
    return added


def _refusal(code):
    return "the milter fails for now" if code == b"t" else "the milter refuses the message"


def _send(connection, code, data):
    connection.sendall(struct.pack("!I", len(data) + 1) + code + data)


def _receive(connection):
    (length,) = struct.unpack("!I", _read(connection, 4))
    packet = _read(connection, length)
    return packet[:1], packet[1:]


def _read(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError("it hangs up")
        data += piece
    return data
