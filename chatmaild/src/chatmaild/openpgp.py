"""Is a message end-to-end encrypted as PGP/MIME (RFC 3156) with integrity protection (RFC 9580)?

What is inside the encrypted packet cannot be seen; so all that can be asked is that there is nothing else.
"""

import binascii
import re

from .mime import Entity, MalformedMessage

# Packet types, RFC 9580 section 5.
PUBLIC_KEY_ENCRYPTED_SESSION_KEY = 1
SYMMETRIC_KEY_ENCRYPTED_SESSION_KEY = 3
ENCRYPTED_AND_INTEGRITY_PROTECTED = 18

_BEGIN = b"-----BEGIN PGP MESSAGE-----\r\n"
_END = b"-----END PGP MESSAGE-----"
_CHECKSUM = re.compile(rb"\r\n=[A-Za-z0-9+/]{4}")
_CHECKSUM_LENGTH = 7
_DECODE_STEP = 1 << 20  # octets, a multiple of 4; other threads get a turn in between


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
            and is_encrypted_armor(parts[1].body(), outgoing=outgoing)
        )
    except MalformedMessage:
        return False


def is_encrypted_armor(text: bytes, *, outgoing: bool) -> bool:
    """Whether `text` is ASCII armor (RFC 9580 section 6) around an encrypted message.

    :param outgoing: whether a line ``Version: ...`` is refused; Proton Mail sends one.
    """
    payload = dearmor(text, version_allowed=not outgoing)
    return payload is not None and is_encrypted_payload(payload)


def dearmor(text: bytes, *, version_allowed: bool) -> bytes | bytearray | None:
    """Decode ASCII armor; None unless it is armor of a message and nothing else.

    Lines end in CRLF. No armor header is accepted, except Version if `version_allowed`. The checksum is optional and
    not verified (RFC 9580 section 6.1); a last line of ``=`` and four characters is taken for it.
    """
    if not text.isascii() or not text.startswith(_BEGIN):
        return None
    end = _without_line_breaks(text, len(text))
    if not text.endswith(_END, len(_BEGIN), end):
        return None
    start, end = len(_BEGIN), _without_line_breaks(text, end - len(_END))
    if text.startswith(b"Version: ", start):
        line_end = text.find(b"\r\n", start, end)
        if not version_allowed or line_end < 0:
            return None
        start = line_end
    if _CHECKSUM.match(text, max(start, end - _CHECKSUM_LENGTH), end):
        end -= _CHECKSUM_LENGTH
    return _decode_base64(text[start:end].translate(None, b"\r\n"))


def _without_line_breaks(text: bytes, end: int) -> int:
    while text.endswith(b"\r\n", 0, end):
        end -= 2
    return end


def _decode_base64(text: bytes) -> bytes | bytearray | None:
    if text.find(b"=", 0, max(0, len(text) - 2)) >= 0:
        return None  # the steps below would each take padding at their end
    payload = bytearray()
    try:
        for start in range(0, len(text), _DECODE_STEP):
            payload += binascii.a2b_base64(text[start : start + _DECODE_STEP], strict_mode=True)
    except binascii.Error:
        return None
    return payload


def is_encrypted_payload(payload: bytes | bytearray) -> bool:
    """Whether `payload` is any number of session key packets, then one integrity-protected packet, and no more.

    Packet bodies are not looked at. Cost is linear: each length octet is read once.
    """
    position = 0
    try:
        while position < len(payload):
            tag, position = _next_packet(payload, position)
            if tag == ENCRYPTED_AND_INTEGRITY_PROTECTED:
                return position == len(payload)
            if tag not in (PUBLIC_KEY_ENCRYPTED_SESSION_KEY, SYMMETRIC_KEY_ENCRYPTED_SESSION_KEY):
                return False
    except IndexError:  # a header that the end of the data cuts off
        return False
    return False


def _next_packet(payload: bytes | bytearray, position: int) -> tuple[int, int]:
    """Read the packet header at `position` (RFC 9580 section 4.2).

    :returns: tag, and the offset after the packet, which may lie behind the end of the data.
    :raises IndexError: the data ends in the header, or it is no header of known length.
    """
    first = payload[position]
    position += 1
    if first & 0xC0 == 0xC0:
        return first & 0x3F, _skip_body(payload, position)
    if first & 0xC0 == 0x80 and first & 3 < 3:
        # Legacy format, which GnuPG writes.
        size = 1 << (first & 3)
        length = int.from_bytes(_slice(payload, position, size))
        return first >> 2 & 0x0F, position + size + length
    raise IndexError("not an OpenPGP packet header with a length")


def _skip_body(payload: bytes | bytearray, position: int) -> int:
    """The offset after a packet body in the current format, partial lengths included (RFC 9580 section 4.2.1)."""
    while True:
        octet = payload[position]
        position += 1
        if octet < 192:
            return position + octet
        if octet < 224:
            return position + ((octet - 192) << 8) + payload[position] + 193
        if octet == 255:
            return position + 4 + int.from_bytes(_slice(payload, position, 4))
        position += 1 << (octet & 0x1F)


def _slice(payload: bytes | bytearray, position: int, size: int) -> bytes | bytearray:
    octets = payload[position : position + size]
    if len(octets) < size:
        raise IndexError("truncated length")
    return octets
