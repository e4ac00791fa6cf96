"""Tag lists (RFC 6376 section 3.2), such as ``v=1; a=rsa-sha256``: the syntax of signatures and of key records."""

import binascii
import re

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VALUE = re.compile(r"[ \t!-~]*")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_WHITE_SPACE = " \t"
_DROP_WHITE_SPACE = str.maketrans("", "", _WHITE_SPACE)


class Invalid(ValueError):
    """A signature or a key does not count; the text says why, and quotes nothing."""


def parse(text: bytes) -> dict[str, str]:
    """The tags of a list, in its order.

    :param text: the list, unfolded.
    :raises Invalid: it is not one, or a tag is there twice.
    """
    specs = text.decode("latin-1").split(";")
    if not specs[-1].strip(_WHITE_SPACE):
        specs.pop()
    tags: dict[str, str] = {}
    for spec in specs:
        name, equals, value = (piece.strip(_WHITE_SPACE) for piece in spec.partition("="))
        if not equals or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Invalid("not a list of tags")
        if name in tags:
            raise Invalid(f"two tags {name}=" if len(name) < 10 else "a tag is there twice")
        tags[name] = value
    return tags


def items(value: str) -> list[str]:
    """The parts of a value that colons separate."""
    return [item.strip(_WHITE_SPACE) for item in value.split(":")]


def octets(tags: dict[str, str], name: str) -> bytes:
    """The base64 value of a tag, in which white space means nothing.

    :raises Invalid: it is not base64.
    """
    value = tags[name].translate(_DROP_WHITE_SPACE)
    if not _BASE64.fullmatch(value):
        raise Invalid(f"{name}= is not base64")
    return binascii.a2b_base64(value)


def number(tags: dict[str, str], name: str, digits: int) -> int | None:
    """The value of a tag as a number; None without that tag.

    :param digits: how many there may be.
    :raises Invalid: it is not a number, or has more digits.
    """
    if name not in tags:
        return None
    if not re.fullmatch(rf"[0-9]{{1,{digits}}}", tags[name]):
        raise Invalid(f"{name}= is not a number of at most {digits} digits")
    return int(tags[name])
