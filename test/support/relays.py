"""What an apply has left of a relay, and what one check makes of facts."""

from _modules.chatmail_relay import CHECKS
from chatmail_checks import Finding, Relay

MIB = 1024**2
SETTINGS = {
    "mail_domain": "chat.test",
    "mail_domain_bare": "chat.test",
    "ipv4_relay": None,
    "tls_mode": "acme",
    "tls_cert_path": "/cert",
    "tls_key_path": "/key",
    "dns_check": True,
    "dns_update_server": None,
    "dns_update_key_file": None,
    "max_message_size": 30 * MIB,
    "max_load_1m": 5,
    "max_imap_connections": 10000,
    "max_smtp_connections": 1000,
    "mailboxes_dir": "/home/vmail/mail/chat.test",
    "invite_only": False,
    "run_iroh_relay": True,
    "echobot": False,
    "operator_bot": False,
    "mtail_address": None,
    "metrics_page": False,
    "port_25_targets": ["b.test"],
    "backup_repository": "",
    "turn_min_port": 49152,
    "turn_max_port": 65535,
    "release": {"postfix_unit": "postfix@-"},
}


def relay(**settings) -> Relay:
    return Relay(SETTINGS | settings, {}, {})


def judged(name: str, facts: dict, **settings) -> Finding | None:
    """The one finding that a check makes of facts, or None."""
    (check,) = (one for one in CHECKS if one.name == name)
    found = check.judge(facts, relay(**settings))[1]
    assert len(found) < 2
    return found[0] if found else None
