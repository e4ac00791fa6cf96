"""The octets that are signed (RFC 6376 section 3.4): relays may change white space and line breaks on the way.

Time is linear in the message, whatever is in it, and a body is neither copied nor changed as a whole.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

SIMPLE, RELAXED = "simple", "relaxed"

_CRLF = b"\r\n"
_STEP = 64 * 1024  # octets of a body that are canonicalized at a time
_TAB_TO_SPACE = bytes.maketrans(b"\t", b" ")

Octets = bytes | bytearray


@dataclass(frozen=True, slots=True)
class BodyHash:
    """Of a canonicalized body: its SHA-256 digest, and how many octets it has."""

    digest: bytes
    length: int


def unfold(value: bytes) -> bytes:
    """A field body without its line breaks (RFC 5322 section 2.2.3)."""
    return value.replace(_CRLF, b"")


def header_field(field: bytes, algorithm: str) -> bytes:
    """A field in canonical form (sections 3.4.1 and 3.4.2).

    :param field: with its name, and without the last line break, which the result does not have either.
    """
    if algorithm == SIMPLE:
        return field
    name, _, value = field.partition(b":")
    return name.strip(b" \t").lower() + b":" + _collapse(unfold(value)).strip(b" ")


def hash_body(message: Octets, start: int, end: int, algorithm: str) -> BodyHash:
    """Canonicalize ``message[start:end]`` (sections 3.4.3 and 3.4.4), and hash it with SHA-256.

    :param message: CR and LF come only as pairs in it.
    """
    pieces = _relaxed(message, start, end) if algorithm == RELAXED else _simple(message, start, end)
    digest, length = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        length += len(piece)
    return BodyHash(digest.digest(), length)


def _simple(message: Octets, start: int, end: int) -> Iterator[bytes | memoryview]:
    """All but the empty lines at the end."""
    yield memoryview(message)[start : _end_without(message, start, end, _CRLF)]
    yield _CRLF


def _relaxed(message: Octets, start: int, end: int) -> Iterator[bytes]:
    """The same, with white space collapsed within lines, and removed at their ends."""
    end = _end_without(message, start, end, b"\r\n \t")
    if end == start:
        return
    # White space at the end of a piece is kept for the next, which shows whether the line ends there.
    kept = b""
    for at in range(start, end, _STEP):
        piece = _collapse(kept + message[at : min(at + _STEP, end)])
        kept = b" " if piece.endswith(b" ") else b""
        yield piece.removesuffix(b" ").replace(b" \r", b"\r")
    yield _CRLF


def _end_without(message: Octets, start: int, end: int, characters: bytes) -> int:
    """Where ``message[start:end]`` ends when `characters` are stripped from its end."""
    while end > start:
        step = max(start, end - _STEP)
        end = step + len(message[step:end].rstrip(characters))
        if end > step:
            break
    return end


def _collapse(text: Octets) -> Octets:
    """`text` with each run of spaces and tabs made a single space."""
    text = text.translate(_TAB_TO_SPACE)
    # Each turn halves the runs.
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text
