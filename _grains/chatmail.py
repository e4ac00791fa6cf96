"""
What a host is to chatmail, for targeting and for a look over many relays: read from a few files, not from the net.

An apply does not read these: a minion has its grains from when it was started.
"""

import json
import time
from pathlib import Path


def chatmail(root="/"):
    """
    Return the grain ``chatmail``, a flat mapping.

    ``role``
        ``relay``, ``proxy``, ``moved`` for a relay that has gone to another host, or ``none``.
    ``mail_domain``, ``version``, ``applied``
        Of the last complete apply: the domain, the formula's version, and since when (UTC, ISO 8601) the host has had
        this version and these settings.
    ``moved_to``
        Where a relay has moved.
    ``dkim_selector``
        With which a relay signs (RFC 6376 section 3.1).
    ``public_addresses``
        Those of the settings.
    ``container``
        Which kind of container the host is, by systemd; empty for none.

    What is not known is None.
    """
    root = Path(root)
    relay_file = root / "etc/chatmail/relay.json"
    relay = _json(relay_file)
    settings = relay.get("settings") if isinstance(relay.get("settings"), dict) else {}
    moved_to = _text(root / "etc/chatmail/moved")
    role = "moved" if moved_to else "relay" if settings else "none"
    if role != "relay" and (root / "etc/chatmail/proxy.confirmed.nft").is_file():
        role = "proxy"
    return {
        "chatmail": {
            "role": role,
            "mail_domain": settings.get("mail_domain"),
            "version": relay.get("version"),
            "applied": _changed(relay_file),
            "moved_to": moved_to,
            "dkim_selector": _selector(root / "etc/dkimkeys/KeyTable"),
            "public_addresses": settings.get("public_addresses"),
            "container": _text(root / "run/systemd/container") or "",
        }
    }


def _text(path):
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _json(path):
    try:
        found = json.loads(_text(path) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _changed(path):
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(path.stat().st_mtime))
    except OSError:
        return None


def _selector(path):
    """The selector in OpenDKIM's KeyTable, whose line is ``NAME DOMAIN:SELECTOR:PATH``."""
    parts = (_text(path) or "").replace(" ", ":").split(":")
    return parts[2] if len(parts) > 2 else None
