"""
What a relay's zone is to hold: the list of wanted records, made from settings, addresses and keys alone, and its text.
"""

import hashlib
import ipaddress

import chatmail_records as kinds


def public_addresses(settings, own):
    """
    Return the relay's addresses, IPv4 and IPv6, each a tuple of text, or None where the host does not know them.

    settings
        Those of ``map.jinja``; the addresses that they list are the relay's.
    own
        Addresses of the host (list of text); where the settings list none, the global ones (RFC 6890) are the relay's.
    """
    listed = [ipaddress.ip_address(text) for text in settings["public_addresses"]]
    addresses = listed or [address for address in map(ipaddress.ip_address, own) if address.is_global]
    ipv4, ipv6 = (tuple(sorted(str(one) for one in addresses if one.version == version)) for version in (4, 6))
    if settings["disable_ipv6"]:
        ipv6 = ()
    return (ipv4, ipv6) if addresses else (None, () if settings["disable_ipv6"] else None)


def mta_sts_policy(domain):
    """Return the text of the MTA-STS policy file of ``domain`` (RFC 8461 section 3.2), with its line ends."""
    return f"version: STSv1\r\nmode: enforce\r\nmx: {domain}\r\nmax_age: 2419200\r\n"


def _dkim_records(apex, keys):
    """The records of ``keys`` (``chatmail_dkim.records``): that of the key that signs is required."""
    if not keys:
        return [kinds.DkimKey(f"opendkim._domainkey.{apex}", "TXT", None)]
    return [
        kinds.DkimKey(one["name"], "TXT", (one["value"],), required=one["use"] == "now")
        if one["value"]
        else kinds.WithdrawnKey(one["name"], "TXT", (), required=False)
        for one in keys
    ]


def wanted(settings, ipv4, ipv6, dkim, certificate=None):
    """
    Return the list of records (``chatmail_records.Record``) of a relay that has a name.

    settings
        Those of ``map.jinja``.
    ipv4, ipv6
        Tuples of addresses, or None where they are not known.
    dkim
        What ``chatmail_dkim.records`` returns, or nothing where the host has no key yet.
    certificate
        What ``chatmail_cert.facts`` returns, or None where nothing is known of it.
    """
    certificate = certificate or {"account_uri": None, "caa_issuers": [], "names": [], "public_key_sha256": None}
    domain = settings["mail_domain_bare"]
    apex = f"{domain}."
    acme = settings["tls_mode"] == "acme"
    # Changes with the policy, as RFC 8461 section 3.1 wants, and with nothing else.
    policy_id = hashlib.sha256(mta_sts_policy(domain).encode()).hexdigest()[:16]
    records = [
        kinds.Addresses(apex, "A", ipv4, initial=True),
        kinds.Addresses(apex, "AAAA", ipv6, initial=True),
        kinds.MailExchange(apex, "MX", (f"10 {apex}",)),
        kinds.Alias(f"www.{apex}", "CNAME", (apex,), initial=acme),
    ]
    if acme or (settings["tls_mode"] == "external" and f"mta-sts.{domain}" in certificate["names"]):
        records += [
            kinds.Alias(f"mta-sts.{apex}", "CNAME", (apex,), initial=acme),
            kinds.MtaSts(f"_mta-sts.{apex}", "TXT", (f"v=STSv1; id={policy_id}",)),
        ]
    records += [
        *_dkim_records(apex, dkim),
        kinds.Spf(apex, "TXT", ("v=spf1 a ~all",), required=False),
        kinds.Tags(f"_dmarc.{apex}", "TXT", ("v=DMARC1;p=reject;adkim=s;aspf=s",), required=False),
        kinds.Tags(f"_adsp._domainkey.{apex}", "TXT", ("dkim=discardable",), required=False),
    ]
    if acme and certificate["account_uri"] and certificate["caa_issuers"]:
        # Any of an authority's names will do.
        value = f'0 issue "{certificate["caa_issuers"][0]};accounturi={certificate["account_uri"]}"'
        records.append(kinds.Caa(apex, "CAA", (value,), required=False))
    if settings["tls_mode"] != "external" and certificate["public_key_sha256"]:
        # DANE-EE, the public key, SHA-256 (RFC 7672 section 3.1): it stays over renewals, unlike an operator's own.
        value = f"3 1 1 {certificate['public_key_sha256']}"
        records.append(kinds.Tlsa(f"_25._tcp.{apex}", "TLSA", (value,), required=False, signed=True))
    for service, port in (("submission", 587), ("submissions", 465), ("imap", 143), ("imaps", 993)):
        records.append(kinds.Service(f"_{service}._tcp.{apex}", "SRV", (f"0 1 {port} {apex}",), required=False))
    operator = settings["privacy_mail"]
    # RFC 8460 section 3. The relay itself would refuse reports: they are not encrypted.
    if operator and not operator.endswith(f"@{domain}"):
        value = f"v=TLSRPTv1;rua=mailto:{operator}"
        records.append(kinds.Tags(f"_smtp._tls.{apex}", "TXT", (value,), required=False))
    return records


def zone_text(records):
    """Return ``records`` as the text of a zone file (RFC 1035 section 5.1), the required ones first."""
    lines = []
    for title, group in (
        ("Required DNS entries", [record for record in records if record.required]),
        ("Recommended DNS entries", [record for record in records if not record.required and not record.signed]),
        ("Recommended where the zone is signed (DNSSEC)", [record for record in records if record.signed]),
    ):
        if group:
            lines += [f"; {title}", *(line for record in group for line in record.zone_lines())]
    return "".join(f"{line}\n" for line in lines)
