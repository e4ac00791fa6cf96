"""
Checks the settings of a relay, the pillar's ``chatmail`` key, against the schema in ``chatmail/defaults.yaml``.
"""

import difflib
import ipaddress
import math
import re
from itertools import combinations

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# RFC 1123 section 2.1; the last label has a letter in it, so no number of dots makes an address. A leading "_"
# marks a relay with a self-signed certificate.
_HOST_NAME = re.compile(rf"_?{_LABEL}(?:\.{_LABEL})*\.(?=[0-9-]*[a-z]){_LABEL}", re.IGNORECASE)
_LITERAL = re.compile(r"\[[0-9A-Za-z.:]{1,50}\]")
# Without "%" and "$", which systemd, Dovecot and Postfix replace in their files.
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#&'*+/=?^_`{|}~.-]{1,64}")
_PATH = re.compile(r"(?:/[A-Za-z0-9_+@\[\]-][A-Za-z0-9._+@\[\]-]*){2,}")
_SIZE = re.compile(r"([0-9]{1,9})(?:([MG])B?)?", re.IGNORECASE)
_URL = re.compile(r"https?://[A-Za-z0-9._~:/?\[\]@!&'()*+,;=-]{1,500}")
_RANGE_ENDS = ("turn_min_port", "turn_max_port")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_FOLDER = re.compile(r"salt://[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


def size_mb(value):
    """
    Convert a size to MB (multiples of 1024).

    value
        MB as a number, or text: a number with the suffix M, G, MB or GB in any case, or without one for MB.

    Returns the number of MB, or None if this is not a size.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_settings.size_mb 2G
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        return None
    return int(match[1]) * (1024 if (match[2] or "").upper() == "G" else 1)


def _is_ip(value):
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return isinstance(value, str)


def _is_domain(value):
    if not isinstance(value, str):
        return False
    bare = value.strip().removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.IPv4Address(bare)
    except ValueError:
        return len(value) <= 253 and _HOST_NAME.fullmatch(value) is not None
    reachable = not (address.is_unspecified or address.is_multicast or address.is_reserved)
    return reachable and value.strip() in (bare, f"[{bare}]")


def _is_address(value):
    if not isinstance(value, str):
        return False
    local, at, domain = value.rpartition("@")
    return bool(at and _LOCAL_PART.fullmatch(local)) and (
        _HOST_NAME.fullmatch(domain) is not None or _LITERAL.fullmatch(domain) is not None
    )


def _is_address_or_domain(value):
    return isinstance(value, str) and _is_address(f"any{value}" if value.startswith("@") else value)


def _words(value):
    """The items of a YAML list, or of text separated by white space; None if it is neither."""
    if isinstance(value, str):
        return value.split()
    return list(value) if isinstance(value, list | tuple) else None


def _in_bounds(number, spec):
    return spec.get("minimum", -math.inf) <= number <= spec.get("maximum", math.inf)


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_path(value):
    return isinstance(value, str) and _PATH.fullmatch(value) is not None


def _fits(value, spec):
    """Whether the value is one that its entry of the schema allows."""
    match spec["type"]:
        case "boolean":
            return isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false"))
        case "choice":
            return value in spec["choices"]
        case "integer":
            return _is_number(value) and isinstance(value, int) and _in_bounds(value, spec)
        case "number":
            return _is_number(value) and _in_bounds(value, spec)
        case "port":
            # The filters run without the privilege to listen below 1024.
            return _is_number(value) and isinstance(value, int) and 1024 <= value <= 65535
        case "size":
            size = size_mb(value)
            return size is not None and _in_bounds(size, spec)
        case "text":
            return isinstance(value, str) and _CONTROL.search(value) is None
        case "domain":
            return _is_domain(value)
        case "ip":
            return _is_ip(value)
        case "path":
            return _is_path(value)
        case "paths":
            words = _words(value)
            return words is not None and len(words) in (0, 2) and all(map(_is_path, words))
        case "folder":
            return value in ("", "disabled") or (isinstance(value, str) and _FOLDER.fullmatch(value) is not None)
        case "url":
            return value == "" or (isinstance(value, str) and _URL.fullmatch(value.strip()) is not None)
        case "source":
            return _is_path(value) or (isinstance(value, str) and _URL.fullmatch(value) is not None)
        case "sha256":
            return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
        case "ips":
            words = _words(value)
            return words is not None and all(map(_is_ip, words))
        case "address":
            return value == "" or _is_address(value)
        case "addresses":
            words = _words(value)
            return words is not None and all(map(_is_address_or_domain, words))
    raise ValueError(f"the schema has a type that nobody checks: {spec['type']}")


_ALLOWED = {
    "boolean": "true or false",
    "integer": "a whole number without quotes",
    "number": "a number without quotes",
    "port": "a port number from 1024 to 65535",
    "size": "a number of MB such as 500M, or of GB such as 2G",
    "text": "text, in quotes if need be",
    "domain": "a host name such as chat.example.org (xn--... where it has other letters than a-z), "
    "a host name that begins with _, or the IPv4 address of the host",
    "ip": "an IP address",
    "ips": "a list of IP addresses",
    "path": "an absolute path of at least two parts, made of letters, digits and . _ + @ [ ] -",
    "paths": "two space-separated absolute paths: the certificate with its chain, and the key",
    "folder": "salt://NAME for the directory etc/roots/NAME on the controller, or disabled",
    "url": "an address that begins with https://, or '' for none",
    "source": "an address that begins with https://, or an absolute path on the host",
    "sha256": "64 hexadecimal digits in lower case, in quotes",
    "address": "one e-mail address",
    "addresses": "a list of e-mail addresses, or @example.org for everybody there",
}


def _allowed(spec):
    """What the entry of the schema allows, in words."""
    unit = f" {spec['unit']}" if spec["type"] in ("size", "integer", "number") and "unit" in spec else ""
    low, high = spec.get("minimum"), spec.get("maximum")
    bounds = {
        (True, True): f", from {low} to {high}{unit}",
        (True, False): f", at least {low}{unit}",
        (False, True): f", at most {high}{unit}",
        (False, False): "",
    }[low is not None, high is not None]
    if spec["type"] == "choice":
        return " or ".join(spec["choices"])
    return _ALLOWED[spec["type"]] + bounds


def _found(value):
    """A short form of the value with its type, as operators know it from YAML."""
    kinds = {bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({kinds.get(type(value), type(value).__name__)})"


def _unknown(key, known):
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {close[0]}?" if close else "pillar.example names all settings."
    return f"{key}: there is no such setting; {hint}"


def _contradictions(settings):
    """What is wrong between settings that are right each for itself."""
    shortest, longest = settings["username_min_length"], settings["username_max_length"]
    if shortest > longest:
        yield (
            f"username_min_length: found {shortest}, allowed is at most username_max_length, which is {longest}; "
            "as it is nobody could create an address."
        )
    url = settings.get("acme_directory_url", "https://")
    if not url.strip().startswith("https://"):
        yield f"acme_directory_url: found {_found(url)}, allowed is an address that begins with https://."
    metrics = settings["mtail_address"]
    if metrics is not None and ipaddress.ip_address(metrics.strip()).is_global:
        yield f"mtail_address: found {metrics}, allowed is a loopback or private address: metrics are private."
    families = [":" in address for address in _words(settings.get("proxy_target", []))]
    if len(families) > len(set(families)):
        yield f"proxy_target: found {_found(settings['proxy_target'])}, allowed is one IPv4 and one IPv6 address."
    first, last = settings["turn_min_port"], settings["turn_max_port"]
    if first > last:
        yield f"turn_min_port: found {first}, allowed is at most turn_max_port, which is {last}."
    # What is above has the two ends of a range; these are ports that something listens on.
    ports = {key: value for key, value in settings.items() if "_port" in key and key not in _RANGE_ENDS}
    for (one, port), (other, same) in combinations(ports.items(), 2):
        if port == same:
            yield f"{other}: found {same}, which is the port of {one} too; each needs a port of its own."


def problems(schema, pillar):
    """
    Find everything that is wrong with the settings.

    schema
        Content of ``chatmail/defaults.yaml``: for each setting ``default``, ``type``, and where they apply
        ``required``, ``unit``, ``minimum``, ``maximum``.
    pillar
        Value of the pillar's ``chatmail`` key; None if there is none.

    Returns a list of sentences, each naming the setting, what was found and what is allowed; empty if all is well.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_settings.problems '{mail_domain: {type: domain, default: null}}' '{mail_domain: a.b}'
    """
    if pillar is None:
        pillar = {}
    if not isinstance(pillar, dict):
        return [f"chatmail: found {_found(pillar)}, allowed is a mapping of settings, as in pillar.example."]
    found = []
    for key, value in pillar.items():
        spec = schema.get(key)
        if spec is None:
            found.append(_unknown(key, schema))
        elif value is None:
            found.append(f"{key}: has no value; give it {_allowed(spec)}, or remove the line.")
        elif not _fits(value, spec):
            found.append(f"{key}: found {_found(value)}, allowed is {_allowed(spec)}.")
    found += [
        f"{key}: is missing; write it into the pillar of this host (a file in pillar/, see pillar.example), "
        f"below `chatmail:`. It is {_allowed(spec)}."
        for key, spec in schema.items()
        if spec.get("required") and key not in pillar
    ]
    if not found:
        defaults = {key: spec["default"] for key, spec in schema.items()}
        found += _contradictions(defaults | pillar)
    return found
