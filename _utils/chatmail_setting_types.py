"""
The types that a setting may have in ``chatmail/defaults.yaml``: how a value of the pillar is read, and what is allowed.
"""

import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# RFC 1123 section 2.1; the last label has a letter in it, so no number of dots makes an address. A leading "_"
# marks a relay with a self-signed certificate.
_HOST_NAME = re.compile(rf"_?{_LABEL}(?:\.{_LABEL})*\.(?=[0-9-]*[a-z]){_LABEL}", re.IGNORECASE)
_LITERAL = re.compile(r"\[[0-9A-Za-z.:]{1,50}\]")
# Without "%" and "$", which systemd, Dovecot and Postfix replace in their files.
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#&'*+/=?^_`{|}~.-]{1,64}")
_PATH = re.compile(r"(?:/[A-Za-z0-9_+@\[\]-][A-Za-z0-9._+@\[\]-]*){2,}")
_SIZE = re.compile(r"([0-9]{1,9})(?:([MG])B?)?", re.IGNORECASE)
# RFC 3986 without user information and percent-encoding.
_URL = re.compile(
    rf"(?P<scheme>https?)://(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?:_?{_LABEL}\.)*_?{_LABEL})"
    r"(?::(?P<port>[0-9]{1,5}))?(?:[/?][a-z0-9._~:/?\[\]@!&'()*+,;=-]*)?",
    re.IGNORECASE,
)
_URL_MAX = 500
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_FOLDER = re.compile(r"salt://[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
# What Delta Chat gives out as an invitation to a chat.
_CHAT_LINK = re.compile(r"https://i\.delta\.chat/#[A-Za-z0-9&=%._~+@-]{1,500}")
_WORD = re.compile(r"[A-Za-z0-9._+-]{1,100}")
# As restic(1) takes it, without what systemd replaces in its files.
_REPOSITORY = re.compile(
    r"(?:/[A-Za-z0-9_+-][A-Za-z0-9._+-]*){2,}"
    r"|sftp:[A-Za-z0-9_][A-Za-z0-9._-]{0,63}@[A-Za-z0-9][A-Za-z0-9._-]{0,252}:/?[A-Za-z0-9_][A-Za-z0-9._/+-]*"
    r"|(?:s3|rest):https://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?/[A-Za-z0-9._/+-]*"
)
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Type:
    """
    ``read(value, spec)`` returns a value of the pillar in the form that the relay uses, or raises ValueError;
    ``spec`` is the setting's entry in the schema. ``allowed`` says in words what it takes, without bounds.
    """

    read: Callable
    allowed: str


def _demand(holds):
    if not holds:
        raise ValueError


def _matching(pattern, value):
    _demand(isinstance(value, str) and pattern.fullmatch(value.strip()))
    return value.strip()


def _boolean(value, spec):
    if isinstance(value, bool):
        return value
    _demand(isinstance(value, str) and value.lower() in ("true", "false"))
    return value.lower() == "true"


def _choice(value, spec):
    _demand(value in spec["choices"])
    return value


def _within(number, spec):
    _demand(spec.get("minimum", -math.inf) <= number <= spec.get("maximum", math.inf))
    return number


def _number(value, spec):
    _demand(isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))
    return _within(value, spec)


def _integer(value, spec):
    _demand(isinstance(value, int))
    return _number(value, spec)


def _port(value, spec):
    # The filters run without the privilege to listen below 1024.
    return _integer(value, {"minimum": 1024, "maximum": 65535})


def size_mb(value):
    """
    Convert a size, MB as a number or text such as ``500M``, ``2G``, ``100MB`` or ``256``, to MB (multiples of 1024).

    Returns None if it is not a size.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        return None
    return int(match[1]) * (1024 if (match[2] or "").upper() == "G" else 1)


def _size(value, spec):
    size = size_mb(value)
    _demand(size is not None)
    _within(size, spec)
    text = str(value).strip().upper().removesuffix("B")
    return f"{text}M" if text.isdigit() else text


def _text(value, spec):
    _demand(isinstance(value, str) and not _CONTROL.search(value))
    return value.strip()


def is_ipv4(text):
    """Whether the text is an IPv4 address as four decimal numbers."""
    try:
        return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


def _domain(value, spec):
    _demand(isinstance(value, str))
    bare = value.strip()
    if bare.startswith("[") and bare.endswith("]"):
        bare = bare[1:-1]
        _demand(is_ipv4(bare))
    if is_ipv4(bare):
        address = ipaddress.IPv4Address(bare)
        _demand(not (address.is_unspecified or address.is_multicast or address.is_reserved))
        return bare
    _demand(len(value) <= 253 and _HOST_NAME.fullmatch(value))
    return value.lower()


def _words(value):
    """The items of a YAML list, or of text separated by white space."""
    _demand(isinstance(value, str | list | tuple))
    words = value.split() if isinstance(value, str) else list(value)
    _demand(all(isinstance(word, str) for word in words))
    return words


def _domains(value, spec):
    return [_domain(word, spec) for word in _words(value)]


def _ip(value, spec):
    _demand(isinstance(value, str) and "%" not in value)
    return str(ipaddress.ip_address(value.strip()))


def _ips(value, spec):
    return [_ip(word, spec) for word in _words(value)]


def _path(value, spec):
    return _exactly(_PATH, value)


def _exactly(pattern, value):
    _demand(isinstance(value, str) and pattern.fullmatch(value))
    return value


def _paths(value, spec):
    words = _words(value)
    _demand(len(words) in (0, 2))
    return " ".join(_path(word, spec) for word in words)


def _folder(value, spec):
    return value if value in ("", "disabled") else _exactly(_FOLDER, value)


def _web_address(value, schemes):
    text = _matching(_URL, value)
    match = _URL.fullmatch(text)
    _demand(len(text) <= _URL_MAX and match["scheme"].lower() in schemes)
    if match["ipv6"]:
        ipaddress.IPv6Address(match["ipv6"])
    _demand(1 <= int(match["port"] or 443) <= 65535)
    return text


def _url(value, spec):
    return "" if value == "" else _web_address(value, {"https"})


def _source(value, spec):
    if isinstance(value, str) and value.startswith("/"):
        return _path(value, spec)
    return _web_address(value, {"https", "http"})


def _sha256(value, spec):
    return _exactly(_SHA256, value)


def _repository(value, spec):
    return "" if value == "" else _exactly(_REPOSITORY, value)


def _is_address(text):
    local, at, domain = text.rpartition("@")
    return bool(at and _LOCAL_PART.fullmatch(local) and (_HOST_NAME.fullmatch(domain) or _LITERAL.fullmatch(domain)))


def _address(value, spec):
    _demand(isinstance(value, str) and (value == "" or _is_address(value)))
    return value


def _contact(value, spec):
    _demand(isinstance(value, str) and (value == "" or _is_address(value) or _CHAT_LINK.fullmatch(value)))
    return value


def _addresses(value, spec):
    words = _words(value)
    _demand(all(_is_address(f"any{word}" if word.startswith("@") else word) for word in words))
    return words


def _record(value, fields):
    """A mapping that has these keys and no others; ``fields`` maps each to what reads its value."""
    _demand(isinstance(value, dict) and set(value) == set(fields))
    return {key: read(value[key]) for key, read in fields.items()}


def _records(value, fields, identity):
    """A list of them, no two with the same ``identity``."""
    _demand(isinstance(value, list))
    records = [_record(item, fields) for item in value]
    _demand(len({record[identity] for record in records}) == len(records))
    return records


def _word(value):
    return _exactly(_WORD, value)


def _download(value):
    return _web_address(value, {"https"})


def _version_number(value):
    _demand(not isinstance(value, bool))
    return _integer(value, {"minimum": 0, "maximum": 2**32 - 1})


def _sources(value):
    fields = {
        "sourceId": _word,
        "versionInteger": _version_number,
        "versionString": _word,
        "downloadUrl": _download,
    }
    _demand(value)
    return _records(value, fields, "sourceId")


def _app_versions(value, spec):
    return _records(value, {"clientId": _word, "sources": _sources}, "clientId")


TYPES = {
    "boolean": Type(_boolean, "true or false"),
    "choice": Type(_choice, ""),
    "integer": Type(_integer, "a whole number without quotes"),
    "number": Type(_number, "a number without quotes"),
    "port": Type(_port, "a port number from 1024 to 65535"),
    "size": Type(_size, "a number of MB such as 500M, or of GB such as 2G"),
    "text": Type(_text, "text, in quotes if need be"),
    "domain": Type(
        _domain,
        "a host name such as chat.example.org (xn--... where it has other letters than a-z), "
        "a host name that begins with _, or the IPv4 address of the host",
    ),
    "domains": Type(_domains, "a list of host names"),
    "ip": Type(_ip, "an IP address"),
    "ips": Type(_ips, "a list of IP addresses"),
    "path": Type(_path, "an absolute path of at least two parts, made of letters, digits and . _ + @ [ ] -"),
    "paths": Type(_paths, "two space-separated absolute paths: the certificate with its chain, and the key"),
    "folder": Type(_folder, "salt://NAME for the directory etc/roots/NAME on the controller, or disabled"),
    "url": Type(_url, "an address that begins with https://, or '' for none"),
    "source": Type(_source, "an address that begins with https://, or an absolute path on the host"),
    "sha256": Type(_sha256, "64 hexadecimal digits in lower case, in quotes"),
    "repository": Type(
        _repository, "a directory on the host, sftp:USER@HOST:/PATH, s3:https://HOST/BUCKET, rest:https://HOST/, or ''"
    ),
    "address": Type(_address, "one e-mail address"),
    "contact": Type(
        _contact, "one e-mail address, or a link to a chat as Delta Chat shows it (https://i.delta.chat/#...)"
    ),
    "app_versions": Type(
        _app_versions,
        "a list of clients (clientId and sources), each source with sourceId, versionInteger, versionString and an "
        "https downloadUrl",
    ),
    "addresses": Type(_addresses, "a list of e-mail addresses, or @example.org for everybody there"),
}


def allowed(spec):
    """Return what the entry of the schema allows, in words."""
    if spec["type"] == "choice":
        return " or ".join(spec["choices"])
    unit = f" {spec['unit']}" if spec["type"] in ("size", "integer", "number") and "unit" in spec else ""
    match spec.get("minimum"), spec.get("maximum"):
        case None, None:
            bounds = ""
        case low, None:
            bounds = f", at least {low}{unit}"
        case None, high:
            bounds = f", at most {high}{unit}"
        case low, high:
            bounds = f", from {low} to {high}{unit}"
    return TYPES[spec["type"]].allowed + bounds
