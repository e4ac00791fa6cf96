"""
The settings of a relay: what the pillar's ``chatmail`` key may say, and what follows from it.

The one place that knows. States reach it by ``chatmail_settings`` while they render, tools and tests import it, and
our services find what follows from the settings already in their files. ``schema`` is everywhere the content of
``chatmail/defaults.yaml``: for each setting ``default``, ``type`` and ``doc``, and where they apply ``required``,
``unit``, ``minimum``, ``maximum`` and ``choices``.
"""

import contextlib
import difflib
import ipaddress
from itertools import combinations

from chatmail_services import METRICS_PORTS, PORT_SETTINGS, PORTS, REAL_TIME_PORTS
from chatmail_setting_types import TYPES, allowed, is_ipv4, size_mb

# Takes the place of a mail domain that is missing or wrong (RFC 6761 section 6.4).
NO_DOMAIN = "missing.invalid"

# Settings that there were. Who still has one is told, and not stopped.
RETIRED = {"filtermail_lmtp_port_transport": "no service listens there"}


def effective(schema, pillar):
    """
    Return all settings, each in the form in which templates and services use it, and what follows from them.

    Nothing here fails, whatever the pillar says, because wrong settings are reported by a state, and states have to
    render for that: where a value is wrong, the default takes its place. What follows:

    ``mail_domain``
        What stands after the @: ``chat.example.org``, or ``[192.0.2.7]`` (RFC 5321 section 4.1.3); ``rename_from`` too.
    ``mail_domain_bare``
        The same without brackets.
    ``ipv4_relay``
        ``192.0.2.7``, or None where the domain is a name.
    ``postfix_myhostname``
        A name in every case: the reverse pointer name of an address.
    ``tls_mode``, ``tls_cert_path``, ``tls_key_path``
        ``external``, ``self`` or ``acme``, and where certificate and key are.
    ``mailboxes_dir``, ``run_iroh_relay``, ``iroh_relay_url``, ``echobot_address``, ``operator_bot_address``
        The directory even where the pillar does not say; whether this host runs a real-time relay (clients would not
        trust the certificate of an address), and the one that clients are told of, or None; the bot's address.
    ``max_mailbox_size_mb``, ``min_available_memory_mb``, ``min_free_disk_space_mb``
        MB (multiples of 1024).
    """
    given = pillar if isinstance(pillar, dict) else {}
    settings = {}
    for key, spec in schema.items():
        settings[key] = spec["default"]
        if given.get(key) is not None:
            with contextlib.suppress(ValueError):
                settings[key] = TYPES[spec["type"]].read(given[key], spec)
    return settings | _derived(settings)


def _derived(settings):
    bare = settings["mail_domain"] or NO_DOMAIN
    ipv4 = bare if is_ipv4(bare) else None
    domain = f"[{bare}]" if ipv4 else bare
    old = settings["rename_from"]
    own_iroh = settings["iroh_relay"] is None and not ipv4
    bots = {"echobot_address": f"echo@{domain}", "operator_bot_address": f"operator-bot@{domain}"}
    external = settings["tls_external_cert_and_key"].split()
    if external:
        tls = ("external", *external)
    elif ipv4 or bare.startswith("_"):
        tls = ("self", "/etc/ssl/certs/mailserver.pem", "/etc/ssl/private/mailserver.key")
    else:
        tls = ("acme", f"/var/lib/acme/live/{bare}/fullchain", f"/var/lib/acme/live/{bare}/privkey")
    return {
        "mail_domain": domain,
        "mail_domain_bare": bare,
        "rename_from": f"[{old}]" if old and is_ipv4(old) else old,
        "ipv4_relay": ipv4,
        "postfix_myhostname": ipaddress.IPv4Address(ipv4).reverse_pointer if ipv4 else bare,
        "mailboxes_dir": settings["mailboxes_dir"] or f"/home/vmail/mail/{bare}",
        "run_iroh_relay": own_iroh,
        "iroh_relay_url": f"https://{bare}" if own_iroh else settings["iroh_relay"] or None,
        **bots,
        "bots": [bots[f"{name}_address"] for name in ("echobot", "operator_bot") if settings[name]],
        "tls_mode": tls[0],
        "tls_cert_path": tls[1],
        "tls_key_path": tls[2],
    } | {
        f"{key}_mb": size_mb(settings[key])
        for key in ("max_mailbox_size", "min_available_memory", "min_free_disk_space")
    }


def problems(schema, pillar):
    """
    Return everything that is wrong with the settings: sentences that name the setting, what was found and what is
    allowed; an empty list if all is well.
    """
    if pillar is None:
        pillar = {}
    if not isinstance(pillar, dict):
        return [f"chatmail: found {_found(pillar)}, allowed is a mapping of settings, as in pillar.example."]
    found = []
    for key, value in pillar.items():
        if key in RETIRED:
            continue
        spec = schema.get(key)
        if spec is None:
            found.append(_unknown(key, schema))
        elif value is None:
            found.append(f"{key}: has no value; give it {allowed(spec)}, or remove the line.")
        else:
            try:
                TYPES[spec["type"]].read(value, spec)
            except ValueError:
                found.append(f"{key}: found {_found(value)}, allowed is {allowed(spec)}.")
    found += [
        f"{key}: is missing; write it into the pillar of this host (a file in pillar/, see pillar.example), "
        f"below `chatmail:`. It is {allowed(spec)}."
        for key, spec in schema.items()
        if spec.get("required") and key not in pillar
    ]
    return found or list(_contradictions(effective(schema, pillar)))


def notices(pillar):
    """Return what the operator should know about settings that are not wrong, a list of sentences."""
    given = pillar if isinstance(pillar, dict) else {}
    found = [f"{key}: does nothing any more, {why}; remove the line." for key, why in RETIRED.items() if key in given]
    if not given.get("contact"):
        found.append(
            "contact: is missing; nobody can tell who runs this relay. An e-mail address or chat link is for its pages."
        )
    return found


def ports(settings):
    """
    Map each port that a relay listens on, such as ``25/tcp``, to the systemd services that may hold it.

    settings
        What :func:`effective` returns.
    """
    return (
        _fixed_ports(settings)
        # When these change places in the pillar, each is still held by the owner of another.
        | {
            f"{settings[key]}/tcp": list(dict.fromkeys([service, *PORT_SETTINGS.values()]))
            for key, service in PORT_SETTINGS.items()
        }
    )


def _fixed_ports(settings):
    return (
        PORTS
        | (METRICS_PORTS if settings["mtail_address"] else {})
        | (REAL_TIME_PORTS if settings["run_iroh_relay"] else {})
    )


def _contradictions(settings):
    """What is wrong between settings that are right each for itself."""
    shortest, longest = settings["username_min_length"], settings["username_max_length"]
    if shortest > longest:
        yield (
            f"username_min_length: found {shortest}, allowed is at most username_max_length, which is {longest}; "
            "as it is nobody could create an address."
        )
    local_part, at, domain = settings["operator_address"].rpartition("@")
    if at and (domain.lower() != settings["mail_domain"] or local_part.lower() in ("postmaster", "abuse")):
        yield (
            f"operator_address: found {settings['operator_address']}, allowed is an address that you have made at "
            f"{settings['mail_domain']}, other than postmaster and abuse."
        )
    if settings["rename_from"] == settings["mail_domain"]:
        yield "rename_from: found the mail_domain itself, allowed is an earlier one of this relay; or remove the line."
    if not settings["acme_directory_url"]:
        yield "acme_directory_url: found '' (text), allowed is an address that begins with https://."
    metrics = settings["mtail_address"]
    if metrics and not _is_private(ipaddress.ip_address(metrics)):
        yield f"mtail_address: found {metrics}, allowed is a loopback or private address: metrics are private."
    for key in ("filtermail_host", "postfix_host"):
        if not ipaddress.ip_address(settings[key]).is_loopback:
            yield f"{key}: found {settings[key]}, allowed is a loopback address: who reaches it can send any mail."
    if settings["disable_ipv6"]:
        for key in ("filtermail_host", "postfix_host", "mtail_address"):
            if ":" in (settings[key] or ""):
                yield f"{key}: found {settings[key]}, allowed is an IPv4 address, because disable_ipv6 is true."
    families = [":" in address for address in settings["proxy_target"]]
    if len(families) > len(set(families)):
        yield f"proxy_target: found {_found(settings['proxy_target'])}, allowed is one IPv4 and one IPv6 address."
    first, last = settings["turn_min_port"], settings["turn_max_port"]
    if first > last:
        yield f"turn_min_port: found {first}, allowed is at most turn_max_port, which is {last}."
    for one, other in combinations(PORT_SETTINGS, 2):
        if settings[one] == settings[other]:
            yield f"{other}: found {settings[one]}, which is the port of {one} too; each needs a port of its own."
    fixed = _fixed_ports(settings)
    for key in PORT_SETTINGS:
        if owners := fixed.get(f"{settings[key]}/tcp"):
            yield f"{key}: found {settings[key]}, which is a port of {owners[0]}; allowed is one that nobody else has."


def _is_private(address):
    return address.is_loopback or (
        not address.is_global and not (address.is_unspecified or address.is_multicast or address.is_reserved)
    )


def _found(value):
    """A short form of the value with its type, as operators know it from YAML."""
    kinds = {bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({kinds.get(type(value), type(value).__name__)})"


def _unknown(key, schema):
    close = difflib.get_close_matches(str(key), schema, n=1)
    hint = f"did you mean {close[0]}?" if close else "pillar.example names all settings."
    return f"{key}: there is no such setting; {hint}"
