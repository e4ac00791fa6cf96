"""
The relay's commands on a host without Salt: what Salt gives its execution modules, given by the host itself.

After a ``salt-ssh`` nothing of Salt stays on a relay, but what looks at the relay each hour is the same code that a
``chatmail_relay.status`` runs. An apply puts it there (``chatmail/operator_bot``).
"""

import importlib
import json

from chatmail_services import run

MODULES = (
    *("chatmail_account", "chatmail_backup", "chatmail_cert", "chatmail_dkim", "chatmail_dns", "chatmail_dovecot"),
    *("chatmail_probe", "chatmail_queue", "chatmail_relay", "chatmail_settings"),
)
_FAMILIES = {"ipv4": "inet", "ipv6": "inet6"}


def commands():
    """
    Return the commands of the execution modules in ``MODULES`` (functions by name, such as ``chatmail_queue.list``).

    They call each other as under Salt, by ``__salt__``, which has no other functions but ``grains.get`` of the host's
    addresses.
    """
    found = {"grains.get": _grain}
    for name in MODULES:
        module = importlib.import_module(name)
        vars(module).update(__salt__=found, __opts__={})
        aliases = getattr(module, "__func_alias__", {})
        found |= {
            f"{name}.{aliases.get(attribute, attribute)}": value
            for attribute, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == name and not attribute.startswith("_")
        }
    return found


def _grain(name, default=None):
    """The addresses of the host's interfaces, as Salt's grains have them."""
    if name not in _FAMILIES:
        return default
    interfaces = json.loads(run(["ip", "-json", "address"]).stdout or "[]")
    return [
        address["local"]
        for interface in interfaces
        for address in interface.get("addr_info", ())
        if address["family"] == _FAMILIES[name] and "local" in address
    ]
