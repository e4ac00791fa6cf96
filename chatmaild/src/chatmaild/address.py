"""Mail addresses in SMTP commands (RFC 5321 section 4.1.2) and in the From field (RFC 5322 section 3.4).

Text is str; octets that are no UTF-8 are kept as surrogate escapes, so that an address goes
out as it came in.
"""

import re

PATH_MAX = 1024  # octets; RFC 5321 section 4.5.3.1.3 says 256, and rewriting forwarders exceed it
FROM_MAX = 4000  # octets of an unfolded From field

# Possessive quantifiers: what was taken is never given back, so a mismatch costs one pass.
_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*+"'
_DOT_STRING = r'[^\s\x00-\x1f\x7f"(),:;<>@\[\]\\]++'
_DOMAIN_LITERAL = r"\[[^\s\x00-\x1f\x7f\[\]\\]++\]"
_LOCAL_PART = rf"(?:{_DOT_STRING}|{_QUOTED})"
_ADDRESS = rf"{_LOCAL_PART}@(?:{_DOT_STRING}|{_DOMAIN_LITERAL})"
# Obsolete; dropped as RFC 5321 appendix C allows.
_SOURCE_ROUTE = r"(?:@[^\s:<>]++:)?"

_BRACKETED = re.compile(rf'<((?:[^<>"]|{_QUOTED})*+)>')
_MAILBOX = re.compile(rf"{_SOURCE_ROUTE}({_ADDRESS}|{_LOCAL_PART})")  # `postmaster` needs no domain

# A display name without quotes must not hold an @: readers would not agree on which address is meant.
_DISPLAY_NAME = rf'(?:{_QUOTED}|[^"(),:;<>@\[\]\\])*+'
_ONE_ADDRESS = rf"\s*+(?:({_ADDRESS})|{_DISPLAY_NAME}<\s*+{_SOURCE_ROUTE}({_ADDRESS})\s*+>)\s*+"
_FROM = re.compile(_ONE_ADDRESS)
_FROM_GROUP = re.compile(rf"{_DISPLAY_NAME}:{_ONE_ADDRESS};\s*+")
_OUTSIDE_COMMENT = re.compile(rf"{_QUOTED}|\\.|[()]", re.DOTALL)
_INSIDE_COMMENT = re.compile(r"\\.|[()]", re.DOTALL)


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


def parse_path(argument: str) -> str | None:
    """The address in the argument of MAIL FROM or RCPT TO.

    :param argument: what follows the colon: a path, in angle brackets or bare, then any parameters.
    :returns: the address as written, without source route; "" for the null path ``<>``; None if it is neither.
    """
    argument = argument.strip()
    bracketed = _BRACKETED.match(argument)
    path = bracketed[1] if bracketed else argument.partition(" ")[0]
    if bracketed and not path:
        return ""
    match = _MAILBOX.fullmatch(path)
    return match[1] if match and len(path) <= PATH_MAX else None


def parse_from(value: bytes) -> str | None:
    """The one address of a From field.

    :param value: the unfolded field body.
    :returns: the address as written, or None where there is not exactly one that all readers agree on.
    """
    if len(value) > FROM_MAX:
        return None
    text = _without_comments(decode(value))
    if text is None:
        return None
    match = _FROM.fullmatch(text) or _FROM_GROUP.fullmatch(text)
    return (match[1] or match[2]) if match else None


def _without_comments(text: str) -> str | None:
    """`text` with each comment, nested ones too, replaced by a space; None where parentheses do not match."""
    kept, depth, start, position = [], 0, 0, 0
    while token := (_INSIDE_COMMENT if depth else _OUTSIDE_COMMENT).search(text, position):
        position = token.end()
        if token[0] == "(":
            if depth == 0:
                kept.append(text[start : token.start()])
            depth += 1
        elif token[0] == ")":
            depth -= 1
            start = position
        if depth < 0:
            return None
    kept.append(text[start:])
    return None if depth else " ".join(kept)
