"""A relay's settings and the zone that is right for them, to be served by name servers on loopback addresses."""

import re

import chatmail_zone

DOMAIN = "chat.example.org"
SETTINGS = {
    "mail_domain_bare": DOMAIN,
    "ipv4_relay": None,
    "tls_mode": "acme",
    "disable_ipv6": False,
    "public_addresses": [],
    "privacy_mail": "operator@example.com",
    "dns_root_servers": [],
    "dns_update_server": None,
    "dns_update_key_file": None,
}
ACCOUNT = "https://acme-v02.api.letsencrypt.org/acme/acct/1"
# As long as the text of a 2048 bit key, so that it needs two strings.
DKIM = f"v=DKIM1;k=rsa;p={'MIIB' * 98};s=email;t=s"
KEYS = [{"name": f"opendkim._domainkey.{DOMAIN}.", "value": DKIM, "use": "now"}]
IPV4, IPV6 = "192.0.2.7", "2001:db8::7"
CERTIFICATE = {
    "account_uri": ACCOUNT,
    "caa_issuers": ["letsencrypt.org"],
    "names": [DOMAIN],
    "public_key_sha256": "ab" * 32,
}
ALL = chatmail_zone.wanted(SETTINGS, (IPV4,), (IPV6,), KEYS, CERTIFICATE)
WANTED = [record for record in ALL if not record.signed]
TLSA = next(record for record in ALL if record.signed)
TLSA_LINE = f"{TLSA.name} TLSA"
GOOD = chatmail_zone.zone_text(ALL)
DS = "{} DS 1 13 2 " + "cd" * 32 + "\n"
NAME_SERVERS = "@ NS ns1.example.org.\n@ NS ns2.example.org.\nns1 A 127.0.0.4\nns2 A 127.0.0.5\n"
REQUIRED = {f"{record.name} {record.type}" for record in WANTED if record.required}
RECOMMENDED = {f"{record.name} {record.type}" for record in WANTED if not record.required}
APEX = f"{DOMAIN}."
DKIM_NAME = f"opendkim._domainkey.{APEX}"


def without(*patterns: str) -> str:
    return "".join(line + "\n" for line in GOOD.splitlines() if not any(re.search(one, line) for one in patterns))


def replaced(pattern: str, new: str) -> str:
    assert re.search(pattern, GOOD, re.M)
    return re.sub(pattern, new, GOOD, flags=re.M)


def statuses(result: dict) -> dict:
    return {record: line["status"] for record, line in (result["required"] | result["recommended"]).items()}


def not_ok(result: dict) -> dict:
    return {record: status for record, status in statuses(result).items() if status != "ok"}
