"""Mail addresses in SMTP commands (RFC 5321 section 4.1.2) and in the From field (RFC 5322 section 3.4).

Text is str; octets that are no UTF-8 are kept as surrogate escapes, so that an address goes
out as it came in.
"""

import re

PATH_MAX = 1024  # octets; RFC 5321 section 4.5.3.1.3 says 256, and rewriting forwarders exceed it
FROM_MAX = 4000  # octets of a From field

# Possessive quantifiers, so that a mismatch costs one pass; on single characters alone, because Python 3.11.2 forgets
# to go back where a repeated group fails in its middle (cpython issue 106052).
_QUOTED = r'"[^"\\\x00-\x1f\x7f]*+(?:\\[ -~][^"\\\x00-\x1f\x7f]*+)*"'
_DOT_STRING = r'[^\s\x00-\x1f\x7f"(),:;<>@\[\]\\]++'
_DOMAIN_LITERAL = r"\[[^\s\x00-\x1f\x7f\[\]\\]++\]"
_LOCAL_PART = rf"(?:{_DOT_STRING}|{_QUOTED})"
_AT = rf"@(?:{_DOT_STRING}|{_DOMAIN_LITERAL})"
# Obsolete; dropped as RFC 5321 appendix C allows.
_AT_DOMAIN = r"@(?:[A-Za-z0-9._-]++|\[[A-Za-z0-9.:-]++\])"
_SOURCE_ROUTE = rf"(?:{_AT_DOMAIN}(?:,{_AT_DOMAIN})*:)?"

# `postmaster` needs no domain. Brackets are what the RFC wants; some clients leave them out.
_PATH = re.compile(rf"(?:<(?:{_SOURCE_ROUTE}({_LOCAL_PART}(?:{_AT})?))?>|({_DOT_STRING}(?:{_AT})?))(?= |\Z)")

# The From field: RFC 5322 section 3.4 without what is obsolete in it, and of that only what all readers understand in
# the same way; test/support/readers.py knows some.
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"
# RFC 6532 section 3.1, without octets that are no UTF-8, control characters and line separators.
_UTF8 = r"\xa1-\u2027\u202a-\ud7ff\ue000-\U0010ffff"
_DOMAIN = r"(?:[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]++)*|\[[A-Za-z0-9.:-]++\])"
_ADDR_SPEC = rf"[{_ATEXT}]++(?:\.[{_ATEXT}]++)*@{_DOMAIN}"
_ATOM = rf"[.{_UTF8}{_ATEXT}]"  # the dot is obsolete in a display name, clear and common
# RFC 5322 section 3.2.2. A line of white space alone is obsolete; a line break in quotes ends them for some readers.
_FWS = r"[ \t]*+(?:\r\n[ \t]++)?"
# Nothing else than words, also to a reader that does not know quotes and comments.
_WORDS = rf"[ .{_UTF8}{_ATEXT}]*+"
_PHRASE = rf'(?:{_ATOM}++{_FWS}|"{_WORDS}"{_FWS})+'
_QUOTED_STRING = rf'"[ !#-\[\]-~{_UTF8}]*+(?:\\[ -~][ !#-\[\]-~{_UTF8}]*+)*"{_FWS}'
_NAME = rf"(?:{_PHRASE}|{_QUOTED_STRING})"
_COMMENT = rf"(?:\({_WORDS}\){_FWS})?"
_ONE_MAILBOX = rf"{_COMMENT}(?:({_ADDR_SPEC})|{_NAME}?<[ \t]*+({_ADDR_SPEC})[ \t]*+>){_FWS}{_COMMENT}"
_FROM = re.compile(rf"(?:{_ONE_MAILBOX}|{_NAME}:{_FWS}{_ONE_MAILBOX};)[ \t]*+")
# RFC 2047 section 5
_ENCODED_WORD = re.compile(r"(?<![^ \t\n])=\?[A-Za-z0-9_-]++\?[BbQq]\?[A-Za-z0-9!#$%&'*+./=^_`{|}~-]++\?=(?=[ \t\r<])")


def decode(octets: bytes) -> str:
    """Octets of the wire as text; `encode` gives back the same octets."""
    return octets.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Undo `decode`."""
    return text.encode("utf-8", "surrogateescape")


def same(one: str, other: str) -> bool:
    """Whether two addresses are equal when the case of ASCII letters is ignored.

    Unicode's case mapping would let look-alikes pass: the Kelvin sign is a k in lower case.
    """
    return encode(one).lower() == encode(other).lower()


def is_literal(author: str) -> bool:
    """Whether the author's domain is a literal, of whatever."""
    return author.endswith("]")


def parse_path(argument: str) -> str | None:
    """The address in the argument of MAIL FROM or RCPT TO.

    :param argument: what follows the colon: a path, in angle brackets or bare, then any parameters.
    :returns: the address as written, without source route; "" for the null path ``<>``; None if it is neither.
    """
    match = _PATH.match(argument.strip())
    if match is None or len(match[0]) > PATH_MAX + len("<>"):
        return None
    return match[1] or match[2] or ""


def parse_from(value: bytes) -> str | None:
    """The one address of a From field: a mailbox of RFC 5322 section 3.4.

    Two readers of one field are a way to send as somebody else, so this is what all understand in the same way: nothing
    obsolete, no quoted local parts, no control characters, comments and groups only where they are simple.

    :param value: the field body as it was folded, without white space around it.
    :returns: the address as written, or None where there is not exactly one that all readers agree on.
    """
    if len(value) > FROM_MAX:
        return None
    text = decode(value)
    if "=?" in text and not _has_clear_encoded_words(text):
        return None
    match = _FROM.fullmatch(text)
    return match[match.lastindex] if match else None


def _has_clear_encoded_words(text: str) -> bool:
    """Whether whatever begins like an encoded word is one (RFC 2047), outside of quotes and comments.

    Some readers look for these words before they look for quotes and angle brackets.
    """
    return '"' not in text and "(" not in text and "=?" not in _ENCODED_WORD.sub("", text)
