"""Is a message end-to-end encrypted as PGP/MIME (RFC 3156) with integrity protection (RFC 9580)?

What is inside the encrypted packet cannot be seen; so all that can be asked is that there is nothing else.
"""

import binascii
import re
from collections.abc import Iterable, Iterator

from .mime import Entity, MalformedMessage, Octets, any_text, line_number, no_text

# Packet types, RFC 9580 section 5.
PUBLIC_KEY_ENCRYPTED_SESSION_KEY = 1
SYMMETRIC_KEY_ENCRYPTED_SESSION_KEY = 3
ENCRYPTED_AND_INTEGRITY_PROTECTED = 18

# Texts that programs write before the first part (RFC 2046 section 5.1.1), white space aside. Nobody shows them.
PREAMBLES = frozenset(
    [
        "This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)",  # Thunderbird, Enigmail, Proton Mail
        "This is an OpenPGP/MIME encrypted message (RFC 2440 and 3156)",  # GPGMail, older Enigmail
        "This is an OpenPGP/MIME encrypted message (RFC 9580 and 3156)",
        "This is a multi-part message in MIME format.",  # Thunderbird, KMail
        "This is a multi-part message in MIME format...",  # MIME::Tools
        "This is a multipart message in MIME format.",  # Outlook, Notes
        "This is a MIME-encapsulated message",  # sendmail
        "This is a MIME-encapsulated message.",  # Postfix
        "This is a MIME encapsulated multipart message.",
        "This is a multi-part message in MIME format",
        "This message is in MIME format.",
        "This message is in MIME format. The first part should be readable text,"  # Alpine
        " while the remaining parts are likely unreadable without MIME-aware tools.",
        "This is a message in Mime Format. If you see this, your mail reader does not support this format.",  # Exchange
    ]
)
_PREAMBLE_MAX = 300  # octets

_BEGIN = re.compile(rb"-----BEGIN PGP MESSAGE-----[ \t]*+\r\n")
_END = b"-----END PGP MESSAGE-----"
# RFC 9580 section 6.2.2; what is free text in them, as in `Comment: https://openpgpjs.org`, is short.
_ARMOR_HEADER = re.compile(
    rb"(Version|Comment):(?: [A-Za-z0-9 !#&'()+,./:;=@_~-]{1,100})?"
    rb"|(Charset|Hash): [A-Za-z0-9_, -]{1,40}|(MessageID): [A-Za-z0-9+/=]{1,40}"
)
_ARMOR_HEADER_MAX = 120  # octets of a line; without line ends, the base64 may be one line of megabytes
_INNER_SPACE = re.compile(rb"[ \t]++(?!\r\n)")
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/=\r\n \t]")
_CHECKSUM = re.compile(rb"\r\n=[A-Za-z0-9+/]{4}")
_CHECKSUM_LENGTH = 7
_WHITE_SPACE = b" \t\r\n"
_STRIP_STEP = 1 << 12  # octets
_DECODE_STEP = 1 << 18  # octets; other threads get a turn in between


class NotEncrypted(ValueError):
    """The text says what is wrong with PGP/MIME, and in which line; it is empty for all else, and quotes nothing."""


class _ArmorError(Exception):
    """Arguments: what is wrong, and the offset where it is, None if nowhere in particular."""


def is_encrypted_message(message: Entity, *, outgoing: bool) -> bool:
    """Whether `require_encrypted_message` is content with `message`."""
    try:
        require_encrypted_message(message, outgoing=outgoing)
    except NotEncrypted:
        return False
    return True


def require_encrypted_message(message: Entity, *, outgoing: bool) -> None:
    """Make sure that `message` is ``multipart/encrypted`` with nothing readable in its body.

    Exactly two parts, as RFC 3156 section 4 has them. Outgoing mail is read more strictly: no preamble that people
    could have written, nothing after the parts, and no header lines in the armor, which tell what program was used.

    :raises NotEncrypted: it is something else.
    """
    try:
        if message.content_type() != "multipart/encrypted":
            raise NotEncrypted
        if outgoing:
            parts = message.parts(2, preamble=_is_program_text, epilogue=no_text)
        else:
            parts = message.parts(2, preamble=any_text, epilogue=any_text)
        if [part.content_type() for part in parts] != ["application/pgp-encrypted", "application/octet-stream"]:
            raise NotEncrypted("its parts are not application/pgp-encrypted and application/octet-stream")
        if parts[0].body().strip() != b"Version: 1":
            raise NotEncrypted("its first part is not Version: 1")
        octets, start, end = parts[1].body_span()
    except MalformedMessage as error:
        raise NotEncrypted(str(error)) from error
    try:
        _check_armor(octets, start, end, outgoing=outgoing)
    except _ArmorError as error:
        text, at = error.args
        where = "line" if octets is message.message else "after decoding the second part, line"
        raise NotEncrypted(text if at is None else f"{where} {line_number(octets, at)}: {text}") from None


def _is_program_text(octets: Octets, start: int, end: int) -> bool:
    """Whether the text before the first part is a program's, or there is none."""
    if end - start > _PREAMBLE_MAX:
        return no_text(octets, start, end)
    text = b" ".join(octets[start:end].split()).decode("latin-1")
    return not text or text in PREAMBLES


def is_encrypted_armor(text: Octets, start: int, end: int, *, outgoing: bool) -> bool:
    """Whether ``text[start:end]`` is ASCII armor (RFC 9580 section 6) around an encrypted message.

    Memory stays small: `text` is decoded in steps and not copied.

    :param outgoing: whether header lines such as ``Version: ...`` are refused; Proton Mail sends one.
    """
    try:
        _check_armor(text, start, end, outgoing=outgoing)
    except _ArmorError:
        return False
    return True


def _check_armor(text: Octets, start: int, end: int, *, outgoing: bool) -> None:
    """Do the work of `is_encrypted_armor`; _ArmorError says what is wrong."""
    start, end = _armor_span(text, start, end, headers_allowed=not outgoing)
    try:
        encrypted = is_encrypted_payload(_decode_base64(text, start, end))
    except binascii.Error:
        foreign = _NO_BASE64.search(text, start, end)
        raise _ArmorError("not base64", foreign.start() if foreign else None) from None
    if not encrypted:
        raise _ArmorError("", None)


def _armor_span(text: Octets, start: int, end: int, *, headers_allowed: bool) -> tuple[int, int]:
    """Where the base64 lines of ASCII armor start and end; _ArmorError where it is not armor of a message alone.

    Lines end in CRLF, before which white space is ignored (RFC 9580 section 6.2). The checksum is optional and not
    verified (section 6.1); a last line of ``=`` and four characters is taken for it.
    """
    begin = _BEGIN.match(text, start, end)
    if begin is None:
        raise _ArmorError("armor of a PGP message does not begin here", start)
    at = text.rfind(_END, begin.end(), end)
    if at < 0 or text[at - 2 : at] != b"\r\n":
        raise _ArmorError("no line ends the armor", None)
    after = text[at + len(_END) : end]
    if after.translate(None, _WHITE_SPACE) or after.count(b"\n") != after.count(b"\r\n"):
        raise _ArmorError("text after the armor", at)
    start = _after_armor_headers(text, begin.end(), at, headers_allowed=headers_allowed)
    end = _without_white_space(text, start, at)
    if _CHECKSUM.match(text, max(start, end - _CHECKSUM_LENGTH), end):
        end = _without_white_space(text, start, end - _CHECKSUM_LENGTH)
    has_space = text.find(b" ", start, end) >= 0 or text.find(b"\t", start, end) >= 0  # quicker than a search
    if has_space and (inner := _INNER_SPACE.search(text, start, end)):
        raise _ArmorError("white space within a line of base64", inner.start())
    return start, end


def _after_armor_headers(text: Octets, start: int, end: int, *, headers_allowed: bool) -> int:
    """The offset after the armor's header lines, each of which there is once at most; _ArmorError for others."""
    names: set[bytes] = set()
    while b":" in (line := text[start : min(end, start + _ARMOR_HEADER_MAX)].partition(b"\r\n")[0]):
        if not headers_allowed:
            raise _ArmorError("this line of the armor tells what program was used, switch it off", start)
        header = _ARMOR_HEADER.fullmatch(line.rstrip(b" \t"))
        if header is None or header[header.lastindex] in names:
            raise _ArmorError("allowed are Version, Comment, Charset, Hash and MessageID once, and short", start)
        names.add(bytes(header[header.lastindex]))
        start += len(line) + 2
    return start


def _without_white_space(text: Octets, start: int, end: int) -> int:
    while kept := text[max(start, end - _STRIP_STEP) : end]:
        end -= len(kept) - len(kept.rstrip(_WHITE_SPACE))
        if end > start and text[end - 1] not in _WHITE_SPACE:
            break
    return end


def _decode_base64(text: Octets, start: int, end: int) -> Iterator[bytes]:
    """Decode ``text[start:end]`` piece by piece (RFC 4648 section 4); white space is what it may hold.

    :raises binascii.Error: it is not base64, or its padding is wrong.
    """
    rest, padded = b"", False
    for step in range(start, end, _DECODE_STEP):
        characters = rest + text[step : min(step + _DECODE_STEP, end)].translate(None, _WHITE_SPACE)
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
