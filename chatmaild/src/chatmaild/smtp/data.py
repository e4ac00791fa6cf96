"""The data of a message on its way: dot-stuffed, each line ending in CRLF (RFC 5321 section 4.5.2)."""


class InvalidData(ValueError):
    """Message data with stray CR, LF or dot, which the next server might take for the end (SMTP smuggling)."""


def unstuff(data: bytes | bytearray) -> bytes | bytearray:
    """The message in dot-stuffed `data` (RFC 5321 section 4.5.2).

    :raises InvalidData: it is empty, a line does not end in CRLF, CR or LF stand alone, or a line is a single dot.
    """
    line_ends = data.count(b"\r\n")
    if not data.endswith(b"\r\n") or data.count(b"\r") != line_ends or data.count(b"\n") != line_ends:
        raise InvalidData
    if data.startswith(b".\r\n") or b"\r\n.\r\n" in data:
        raise InvalidData
    if data.startswith(b"."):
        data = data[1:]
    return data.replace(b"\r\n.", b"\r\n") if b"\r\n." in data else data


def stuff(message: bytes | bytearray) -> bytes | bytearray:
    """Undo `unstuff`."""
    if message.startswith(b"."):
        message = b"." + message
    return message.replace(b"\r\n.", b"\r\n..") if b"\r\n." in message else message
