"""What checks make of certificates and DNS records."""

import pytest

from test.support.relays import judged


def answer(**statuses):
    lines = {name: {"status": status, "remark": "no answer"} for name, status in statuses.items()}
    return {"required": lines, "recommended": {}}


def test_dns_records_are_entered_by_hand_or_published():
    finding = judged("names", answer(A="ok", MX="missing"))
    assert (finding.level, finding.do) == ("error", "enter what salt-ssh relay chatmail_dns.check shows")
    published = {"dns_update_server": "192.0.2.1", "dns_update_key_file": "/key"}
    assert judged("names", answer(MX="wrong"), **published).do == "salt-ssh relay chatmail_dns.publish"


def test_name_servers_that_are_away_are_one_fault():
    finding = judged("names", answer(A="unknown", MX="unknown", TXT="unknown"))
    assert "cannot be asked: no answer" in finding.what


def test_a_reverse_name_of_another_host_is_noted_with_who_can_change_it():
    domain = "chat.example.org"
    assert judged("reverse", {"192.0.2.7": [domain]}, mail_domain_bare=domain) is None
    for names, told in (([], "is missing"), (["static-7.example.net"], "is static-7.example.net")):
        finding = judged("reverse", {"192.0.2.7": names}, mail_domain_bare=domain)
        assert (finding.level, f"(PTR) of 192.0.2.7 {told}" in finding.what) == ("note", True)
        assert f"set it to {domain} at the provider of the host" in finding.do


def served(days, *places):
    places = [dict(zip(("port", "daemon"), place.split(), strict=True)) for place in places]
    return {"names": ["chat.test"], "issuer": "itself", "days_left": days, "places": places}


REFUSED = {"port": 443, "daemon": "nginx", "problem": "refused"}


@pytest.mark.parametrize(
    ("certificates", "level"),
    [
        ([served(71, "25 postfix", "993 dovecot")], None),
        ([], None),
        ([served(71, "25 postfix"), served(9, "993 dovecot")], "warning"),
        ([served(71, "25 postfix"), served(-1, "993 dovecot")], "error"),
    ],
)
def test_served_certificates(certificates, level):
    finding = judged("served", {"certificates": certificates, "not_served": [REFUSED]})
    assert (finding and finding.level) == level
    assert not finding or finding.do == "systemctl reload postfix dovecot nginx"
