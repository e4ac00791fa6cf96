"""As much of MIME as the filter needs (RFC 5322, RFC 2045, RFC 2046), on bytes, in linear time.

The standard library's parser would do for friendly mail only: its cost grows with nesting depth times length, and it
chooses where readers differ. Here nothing nests, and what different readers would understand differently is an error.
"""

import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

# Octets of one header section. One field may have all of them: Postfix hands it to OpenDKIM in one packet, of 65,535 at
# most. Postfix's header_size_limit and header_address_token_limit, where it cuts, are higher.
HEADERS_MAX = 64_000
LINE_MAX = 998  # octets without CRLF, RFC 5322 section 2.1.1
NAME_SHOWN = 60  # octets of a header field's name in a text

_FIELD_BREAK = re.compile(rb"\r\n(?![ \t])")
# Folding white space, RFC 5322 section 3.2.2, with one line break: a line of white space alone, which is obsolete, ends
# the header section for some readers.
_FWS = rb"[ \t]*+(?:\r\n[ \t]++)?"
_FIELD = re.compile(rb"([!-9;-~]+):%b([^\0]*)" % _FWS)
_PADDING = re.compile(rb"[ \t]*(?:\r\n|\Z)")
_WHITE_SPACE = re.compile(rb"\s*+")
# RFC 2045 section 5.1 without comments and quoted pairs, which some readers do not know; many end it with a semicolon.
_TOKEN = rb"[!#-'*+.0-9A-Z^-~-]++"
_VALUE = rb'(?:%b|"[^\x00-\x1f"\\\x7f]*+")' % _TOKEN
_PARAMETER = rb"%b;%b(?P<name>%b)[ \t]*+=[ \t]*+(?P<value>%b)" % (_FWS, _FWS, _TOKEN, _VALUE)
_EACH_PARAMETER = re.compile(_PARAMETER)
_CONTENT_TYPE = re.compile(rb"(%b/%b)((?:%b)*)[ \t]*+;?+" % (_TOKEN, _TOKEN, re.sub(rb"P<\w+>", b":", _PARAMETER)))
# RFC 2046 section 5.1.1, without the space: how many there are depends on who unfolds the field.
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=?-]{1,70}")
# What some reader could take for the parameter: in pieces or encoded (RFC 2231), or inside a quoted value.
_ANY_BOUNDARY = re.compile(rb"boundary[ \t*0-9]*=", re.IGNORECASE)
# What another reader would not decode to the same octets: RFC 2045 section 6.7 lets them choose.
_NO_QUOTED_PRINTABLE = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r\n)|[^\t\r\n -~]|[ \t]\r\n")

_IDENTITY = (b"", b"7bit", b"8bit", b"binary")  # transfer encodings that change nothing

Octets = bytes | bytearray
Padding = Callable[[Octets, int, int], bool]  # is what is between two offsets allowed around the parts?


class MalformedMessage(ValueError):
    """The message is not what RFC 5322 and RFC 2045 describe; the text says where, and quotes nothing from it."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A message or a body part: its header fields, and where its body is in the message."""

    fields: list[tuple[bytes, bytes]]  # lower-case name, body as it was folded, without white space around it
    message: Octets
    start: int
    end: int

    def values(self, name: bytes) -> list[bytes]:
        """The bodies of all fields called `name` (lower case)."""
        return [value for field, value in self.fields if field == name]

    def value(self, name: bytes) -> bytes:
        """The body of the field called `name` (lower case), empty if there is none.

        :raises MalformedMessage: there are several.
        """
        values = self.values(name)
        if len(values) > 1:
            raise MalformedMessage(f"{len(values)} {name.decode()} fields, allowed is one")
        return values[0] if values else b""

    def content_type(self) -> str:
        """Type and subtype in lower case; `text/plain` where nothing is said (RFC 2045 section 5.2).

        :raises MalformedMessage: the field is not what section 5.1 describes.
        """
        return self._content_type()[0]

    def _content_type(self) -> tuple[str, dict[bytes, bytes]]:
        """Type and subtype, and the parameters by their names, all names in lower case."""
        value = self.value(b"content-type")
        if not value:
            return "text/plain", {}
        match = _CONTENT_TYPE.fullmatch(value)
        if match is None:
            raise MalformedMessage("content-type is not as in RFC 2045")
        pairs = [(name.lower(), text) for name, text in _EACH_PARAMETER.findall(match[2])]
        parameters = dict(pairs)
        if len(parameters) < len(pairs):
            raise MalformedMessage("content-type has a parameter twice")
        return match[1].decode("ascii").lower(), parameters

    def _boundary(self) -> bytes:
        if self.value(b"content-transfer-encoding").lower() not in _IDENTITY:
            raise MalformedMessage("multipart with a transfer encoding")
        value = self.value(b"content-type")
        _, parameters = self._content_type()
        boundary = parameters.get(b"boundary", b"").removeprefix(b'"').removesuffix(b'"')
        # Some readers undo encoded words (RFC 2047) before they look for parameters.
        if len(_ANY_BOUNDARY.findall(value)) != 1 or b"=?" in value or not _BOUNDARY.fullmatch(boundary):
            raise MalformedMessage("multipart without one clear boundary")
        return boundary

    def body(self) -> bytes:
        """The body with its transfer encoding undone; see `body_span`."""
        octets, start, end = self.body_span()
        return bytes(memoryview(octets)[start:end])

    def body_span(self) -> tuple[Octets, int, int]:
        """The body with its transfer encoding undone (RFC 2045 section 6), in place where nothing is encoded.

        :returns: octets, and the offsets where the body starts and ends in them.
        :raises MalformedMessage: the encoding is unknown or the body does not follow it.
        """
        match self.value(b"content-transfer-encoding").lower():
            case encoding if encoding in _IDENTITY:
                return self.message, self.start, self.end
            case b"quoted-printable":
                if _NO_QUOTED_PRINTABLE.search(self.message, self.start, self.end):
                    raise MalformedMessage("quoted-printable body with something else in it")
                decoded = binascii.a2b_qp(memoryview(self.message)[self.start : self.end])
            case b"base64":
                encoded = bytes(memoryview(self.message)[self.start : self.end]).translate(None, b"\r\n")
                try:
                    # Not strict it would skip foreign characters and all that follows the padding.
                    decoded = binascii.a2b_base64(encoded, strict_mode=True)
                except binascii.Error as error:
                    raise MalformedMessage(f"base64 body: {error}") from error
            case _:
                raise MalformedMessage("unknown content-transfer-encoding")
        return decoded, 0, len(decoded)

    def parts(self, most: int, *, preamble: Padding, epilogue: Padding) -> list["Entity"]:
        """Split a multipart body (RFC 2046 section 5.1).

        :param most: how many parts are allowed; looking stops there.
        :param preamble: whether what stands before the first part, and is not shown by readers, is allowed.
        :param epilogue: the same for what stands after the last one.
        :raises MalformedMessage: boundary or closing delimiter are missing, there are more parts, a line looks like a
            delimiter to some readers but not to others, or what stands around the parts is not allowed.
        """
        delimiter = b"--" + self._boundary()
        # The line break before a delimiter belongs to it; the one before the first may be that of the header section.
        at = self.start - 2 if self.message.startswith(delimiter, self.start) else self._find(delimiter, self.start)
        first = max(self.start, at)
        entities: list[Entity] = []
        while True:
            after = at + 2 + len(delimiter)
            closing = self.message.startswith(b"--", after)
            line_end = _PADDING.match(self.message, after + 2 * closing, self.end)
            if line_end is None:
                raise self._malformed(after, "the boundary, and more")
            if closing:
                break
            if len(entities) == most:
                raise self._malformed(after, f"more than {most} parts")
            # An empty header section leaves no room for its own line break before the next delimiter.
            at = self._find(delimiter, line_end.end() - 2)
            entities.append(parse(self.message, line_end.end(), max(at, line_end.end())))
        if (again := self.message.find(b"\r\n" + delimiter, after, self.end)) >= 0:
            raise self._malformed(again + 2, "a boundary after the last part")
        if not preamble(self.message, self.start, first):
            raise self._malformed(self.start, "text before the first part")
        if not epilogue(self.message, line_end.end(), self.end):
            raise self._malformed(line_end.end(), "text after the last part")
        return entities

    def _find(self, delimiter: bytes, start: int) -> int:
        at = self.message.find(b"\r\n" + delimiter, max(start, self.start), self.end)
        if at < 0:
            raise MalformedMessage("multipart without closing delimiter")
        return at

    def _malformed(self, at: int, text: str) -> MalformedMessage:
        return MalformedMessage(f"line {line_number(self.message, at)}: {text}")


def any_text(octets: Octets, start: int, end: int) -> bool:
    """Allow whatever stands around the parts; see `Entity.parts`."""
    return True


def no_text(octets: Octets, start: int, end: int) -> bool:
    """Whether there is white space alone around the parts; see `Entity.parts`."""
    return _WHITE_SPACE.fullmatch(octets, start, end) is not None


def line_number(message: Octets, at: int) -> int:
    """The number, from 1, of the line in which the offset `at` is."""
    return message.count(b"\r\n", 0, at) + 1


def require_short_lines(message: Entity) -> None:
    """Make sure that no line of a message has more than `LINE_MAX` octets (RFC 5322 section 2.1.1).

    :raises MalformedMessage: one has; the text says where, and names the header field.
    """
    octets, at = message.message, 0
    # From the start of a line to that of the last one within its reach.
    while len(octets) - at > LINE_MAX + 2:
        end = octets.rfind(b"\r\n", at, at + LINE_MAX + 2)
        if end < 0:
            raise MalformedMessage(_too_long(message, at, octets.index(b"\r\n", at)))
        at = end + 2


def _too_long(message: Entity, start: int, end: int) -> str:
    where = f"line {line_number(message.message, start)}"
    if start < message.start:
        field = _FIELD_BREAK.split(bytes(message.message[:end]))[-1]
        where += f", header field {field.partition(b':')[0][:NAME_SHOWN].decode('ascii')}"
    return f"{where}: {end - start} octets, allowed are {LINE_MAX} (RFC 5322 section 2.1.1)"


def parse(message: Octets, start: int = 0, end: int | None = None) -> Entity:
    """Parse the header section of a message or of a body part.

    :param message: octets whose lines all end in CRLF.
    :param start: offset of the first field.
    :param end: offset after the body; the end of the message if None.
    :raises MalformedMessage: the header section is too long, holds NUL or a line that is no field.
    """
    end = len(message) if end is None else end
    if message.startswith(b"\r\n", start, end):
        return Entity([], message, start + 2, end)
    blank = message.find(b"\r\n\r\n", start, min(end, start + HEADERS_MAX + 4))
    if blank < 0:
        if end - start > HEADERS_MAX:
            raise MalformedMessage(
                f"header section of more than {HEADERS_MAX} octets; shorten its longest fields, such as References"
            )
        section, body = bytes(message[start:end]).removesuffix(b"\r\n"), end
    else:
        section, body = bytes(message[start:blank]), blank + 4
    if not section:
        return Entity([], message, body, end)
    fields = []
    for number, field in enumerate(_FIELD_BREAK.split(section), 1):
        match = _FIELD.fullmatch(field)
        if match is None:
            raise MalformedMessage(f"header field {number} has no name and colon, or holds NUL")
        fields.append((match[1].lower(), match[2].rstrip(b" \t")))
    return Entity(fields, message, body, end)
