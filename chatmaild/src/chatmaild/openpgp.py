"""Is a message end-to-end encrypted as PGP/MIME (RFC 3156) with integrity protection (RFC 9580)?

What is inside the encrypted packet cannot be seen; so all that can be asked is that there is nothing else.
"""

import binascii
import re
from collections.abc import Iterable, Iterator

from .mime import Entity, MalformedMessage, Octets

# Packet types, RFC 9580 section 5.
PUBLIC_KEY_ENCRYPTED_SESSION_KEY = 1
SYMMETRIC_KEY_ENCRYPTED_SESSION_KEY = 3
ENCRYPTED_AND_INTEGRITY_PROTECTED = 18

_BEGIN = b"-----BEGIN PGP MESSAGE-----\r\n"
_END = b"-----END PGP MESSAGE-----"
_CHECKSUM = re.compile(rb"\r\n=[A-Za-z0-9+/]{4}")
_CHECKSUM_LENGTH = 7
_DECODE_STEP = 1 << 18  # octets; other threads get a turn in between


def is_encrypted_message(message: Entity, *, outgoing: bool) -> bool:
    """Whether `message` is ``multipart/encrypted`` with nothing readable in its body.

    Exactly two parts, as RFC 3156 section 4 has them. Outgoing mail is read more strictly: clients of a relay write no
    preamble, and no Version line, which tells the program that was used.
    """
    try:
        if message.content_type() != "multipart/encrypted":
            return False
        parts = message.parts(2, padding=not outgoing)
        return (
            len(parts) == 2
            and parts[0].content_type() == "application/pgp-encrypted"
            and parts[0].body().strip() == b"Version: 1"
            and parts[1].content_type() == "application/octet-stream"
            and is_encrypted_armor(*parts[1].body_span(), outgoing=outgoing)
        )
    except MalformedMessage:
        return False


def is_encrypted_armor(text: Octets, start: int, end: int, *, outgoing: bool) -> bool:
    """Whether ``text[start:end]`` is ASCII armor (RFC 9580 section 6) around an encrypted message.

    Memory stays small: `text` is decoded in steps and not copied.

    :param outgoing: whether a line ``Version: ...`` is refused; Proton Mail sends one.
    """
    span = _armor_span(text, start, end, version_allowed=not outgoing)
    try:
        return span is not None and is_encrypted_payload(_decode_base64(text, *span))
    except binascii.Error:
        return False


def _armor_span(text: Octets, start: int, end: int, *, version_allowed: bool) -> tuple[int, int] | None:
    """Where the base64 lines of ASCII armor start and end; None unless it is armor of a message and nothing else.

    Lines end in CRLF. No armor header is accepted, except Version if `version_allowed`. The checksum is optional and
    not verified (RFC 9580 section 6.1); a last line of ``=`` and four characters is taken for it.
    """
    end = _without_line_breaks(text, start, end)
    if not text.startswith(_BEGIN, start, end) or not text.endswith(_END, start + len(_BEGIN), end):
        return None
    start += len(_BEGIN)
    end = _without_line_breaks(text, start, end - len(_END))
    if text.startswith(b"Version: ", start, end):
        line_end = text.find(b"\r\n", start, end)
        if not version_allowed or line_end < 0 or not text[start:line_end].isascii():
            return None
        start = line_end
    if _CHECKSUM.match(text, max(start, end - _CHECKSUM_LENGTH), end):
        end -= _CHECKSUM_LENGTH
    return start, end


def _without_line_breaks(text: Octets, start: int, end: int) -> int:
    while text.endswith(b"\r\n", start, end):
        end -= 2
    return end


def _decode_base64(text: Octets, start: int, end: int) -> Iterator[bytes]:
    """Decode ``text[start:end]`` piece by piece (RFC 4648 section 4); line breaks are the only foreign characters.

    :raises binascii.Error: it is not base64, or its padding is wrong.
    """
    rest, padded = b"", False
    for step in range(start, end, _DECODE_STEP):
        characters = rest + text[step : min(step + _DECODE_STEP, end)].translate(None, b"\r\n")
        if padded and characters:
            raise binascii.Error("data after padding")
        whole = len(characters) // 4 * 4
        rest = characters[whole:]
        padding = characters.find(b"=", 0, whole)
        padded = padding >= 0
        if padded and padding < whole - 2:  # strict_mode overlooks a group of nothing but padding
            raise binascii.Error("too much padding")
        yield binascii.a2b_base64(characters[:whole], strict_mode=True)
    if rest:
        raise binascii.Error("incomplete group of four")


def is_encrypted_payload(pieces: Iterable[bytes]) -> bool:
    """Whether OpenPGP data is any number of session key packets, then one integrity-protected packet, and no more.

    Packet bodies are not looked at. Cost is linear: each length octet is read once.

    :param pieces: the data, cut anywhere.
    """
    data = _Reader(pieces)
    try:
        while (tag := _next_packet(data)) in (PUBLIC_KEY_ENCRYPTED_SESSION_KEY, SYMMETRIC_KEY_ENCRYPTED_SESSION_KEY):
            pass
    except EOFError:
        return False
    return tag == ENCRYPTED_AND_INTEGRITY_PROTECTED and data.ends_here()


class _Reader:
    """A position in data that comes in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece = b""
        self._position = 0  # in the piece; behind its end after a skip

    def octet(self) -> int:
        """Read one octet; EOFError at the end."""
        while self._position >= len(self._piece):
            self._position -= len(self._piece)
            self._piece = next(self._pieces, None)
            if self._piece is None:
                raise EOFError
        self._position += 1
        return self._piece[self._position - 1]

    def number(self, size: int) -> int:
        """Read a big-endian number of `size` octets; EOFError at the end."""
        return int.from_bytes(bytes(self.octet() for _ in range(size)))

    def skip(self, count: int) -> None:
        """Go on by `count` octets, which need not be there."""
        self._position += count

    def ends_here(self) -> bool:
        """Whether the position is the end; the rest is read."""
        return self._position == len(self._piece) + sum(map(len, self._pieces))


def _next_packet(data: _Reader) -> int:
    """Read a packet header (RFC 9580 section 4.2) and skip the body.

    :returns: the tag; 0, which is reserved, where there is no header of known length.
    :raises EOFError: the data ends in the header.
    """
    first = data.octet()
    if first & 0xC0 == 0xC0:
        _skip_body(data)
        return first & 0x3F
    if first & 0xC0 == 0x80 and first & 3 < 3:
        # Legacy format, which GnuPG writes.
        data.skip(data.number(1 << (first & 3)))
        return first >> 2 & 0x0F
    return 0


def _skip_body(data: _Reader) -> None:
    """Skip a packet body in the current format, partial lengths included (RFC 9580 section 4.2.1)."""
    while 224 <= (octet := data.octet()) < 255:
        data.skip(1 << (octet & 0x1F))
    if octet == 255:
        data.skip(data.number(4))
    elif octet >= 192:
        data.skip((octet - 192 << 8) + data.octet() + 192)
    else:
        data.skip(octet)
