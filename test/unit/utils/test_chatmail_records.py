"""A served record is judged beside the wanted one, in whatever spelling."""

import re

import pytest

from chatmail_records import Caa, Spf
from test.support.zones import APEX, DKIM, DKIM_NAME, GOOD, IPV4, WANTED, not_ok, replaced, statuses, without

DKIM_LINE = rf"^{re.escape(DKIM_NAME)} .*$"


@pytest.mark.parametrize(
    ("zone", "record", "status", "success"),
    [
        pytest.param(replaced(f" 10 {APEX}", f" 0 {APEX}"), f"{APEX} MX", "ok", True, id="MX: another preference"),
        pytest.param(GOOD + f"{APEX} MX 20 b.example.net.\n", f"{APEX} MX", "differs", True, id="MX: a second, later"),
        pytest.param(GOOD + f"{APEX} MX 5 b.example.net.\n", f"{APEX} MX", "wrong", False, id="MX: an earlier one"),
        pytest.param(
            replaced(f"10 {APEX}", "10 mx.example.org.") + f"mx.example.org. A {IPV4}\n",
            f"{APEX} MX",
            "ok",
            True,
            id="MX: another name of this host",
        ),
        pytest.param(replaced(f"10 {APEX}", "0 ."), f"{APEX} MX", "wrong", False, id="MX: refuses mail (RFC 7505)"),
        pytest.param(without(" AAAA "), f"{APEX} AAAA", "missing", True, id="AAAA: missing, recommended then"),
        pytest.param(without(" A "), f"{APEX} A", "missing", True, id="A: missing beside AAAA"),
        pytest.param(without(" A ", " AAAA "), f"{APEX} A", "missing", False, id="no address"),
        pytest.param(GOOD + f"{APEX} AAAA 2001:db8::99\n", f"{APEX} AAAA", "wrong", False, id="AAAA: of an old host"),
        pytest.param(
            without("^www") + f"www.{APEX} A {IPV4}\n", f"www.{APEX} CNAME", "ok", True, id="www: address of the relay"
        ),
        pytest.param(
            without("^www") + f"www.{APEX} A 192.0.2.99\n", f"www.{APEX} CNAME", "wrong", False, id="www: elsewhere"
        ),
        pytest.param(
            without("^www") + f"www.{APEX} CNAME a.example.org.\na.example.org. CNAME {APEX}\n",
            f"www.{APEX} CNAME",
            "ok",
            True,
            id="www: a chain of names",
        ),
        pytest.param(
            without("^www") + f"www.{APEX} CNAME a.example.org.\na.example.org. CNAME www.{APEX}\n",
            f"www.{APEX} CNAME",
            "unknown",
            False,
            id="www: a circle",
        ),
        pytest.param(
            replaced(r'"v=STSv1; id=\w+"', '"v=STSv1;id=20260101;"'),
            f"_mta-sts.{APEX} TXT",
            "differs",
            True,
            id="MTA-STS: another id",
        ),
        pytest.param(
            replaced(r"id=\w+", "id=2026-01-01"), f"_mta-sts.{APEX} TXT", "wrong", False, id="MTA-STS: bad id"
        ),
        pytest.param(
            GOOD + f'_mta-sts.{APEX} TXT "v=STSv1; id=1"\n', f"_mta-sts.{APEX} TXT", "wrong", False, id="MTA-STS: two"
        ),
        pytest.param(
            replaced(DKIM_LINE, f'{DKIM_NAME} TXT "{DKIM[:50]}" "{DKIM[50:100]}" "{DKIM[100:350]}" "{DKIM[350:]}"'),
            f"{DKIM_NAME} TXT",
            "ok",
            True,
            id="DKIM: other strings",
        ),
        pytest.param(
            replaced(DKIM_LINE, f'{DKIM_NAME} TXT "s=* ; p={"MIIB" * 50} " "{"MIIB" * 48}; k=RSA; v=DKIM1;"'),
            f"{DKIM_NAME} TXT",
            "ok",
            True,
            id="DKIM: other order and spaces",
        ),
        pytest.param(
            replaced(DKIM_LINE, f'{DKIM_NAME} TXT "v=DKIM1;k=rsa;p=AAAA"'),
            f"{DKIM_NAME} TXT",
            "wrong",
            False,
            id="DKIM: another key",
        ),
        pytest.param(
            replaced(DKIM_LINE, f'{DKIM_NAME} TXT "v=DKIM1;p="'),
            f"{DKIM_NAME} TXT",
            "wrong",
            False,
            id="DKIM: revoked",
        ),
        pytest.param(
            GOOD + f'{DKIM_NAME} TXT "v=DKIM1;p=AAAA"\n', f"{DKIM_NAME} TXT", "wrong", False, id="DKIM: a second one"
        ),
        pytest.param(
            replaced(f"^{re.escape(DKIM_NAME)} ", "key.example.org. ") + f"{DKIM_NAME} CNAME key.example.org.\n",
            f"{DKIM_NAME} TXT",
            "ok",
            True,
            id="DKIM: by way of another name",
        ),
        pytest.param(GOOD + f'{APEX} TXT "site=1"\n', f"{APEX} TXT", "ok", True, id="SPF: beside another text"),
        pytest.param(replaced("v=spf1 a ~all", "V=SPF1  +A ~ALL"), f"{APEX} TXT", "ok", True, id="SPF: other spelling"),
        pytest.param(replaced("a ~all", "a mx -all"), f"{APEX} TXT", "differs", True, id="SPF: more mechanisms"),
        pytest.param(replaced("a ~all", "-all"), f"{APEX} TXT", "wrong", True, id="SPF: nobody may send"),
        pytest.param(GOOD + f'{APEX} TXT "v=spf1 mx -all"\n', f"{APEX} TXT", "wrong", True, id="SPF: two"),
        pytest.param(
            replaced("v=DMARC1;p=reject", "v=DMARC1; p=REJECT; rua=mailto:a@example.com"),
            f"_dmarc.{APEX} TXT",
            "differs",
            True,
            id="DMARC: with reports",
        ),
        pytest.param(replaced("p=reject", "p=none"), f"_dmarc.{APEX} TXT", "wrong", True, id="DMARC: weaker"),
        pytest.param(replaced("acct/1", "acct/2"), f"{APEX} CAA", "wrong", True, id="CAA: another account"),
        pytest.param(
            GOOD + f'{APEX} CAA 0 issue "other.example"\n', f"{APEX} CAA", "differs", True, id="CAA: another authority"
        ),
        pytest.param(replaced("0 1 993", "5 0 993"), f"_imaps._tcp.{APEX} SRV", "ok", True, id="SRV: other priority"),
        pytest.param(replaced("0 1 993", "0 1 995"), f"_imaps._tcp.{APEX} SRV", "wrong", True, id="SRV: other port"),
    ],
)
def test_one_difference_is_judged_and_nothing_else_is_touched_by_it(serve, zone, record, status, success):
    result = serve(zone)
    assert statuses(result)[record] == status
    assert result["success"] is success
    family = {f"{APEX} A", f"{APEX} AAAA"}
    beside = not_ok(result).keys() - {record}
    assert not beside or beside <= family


def test_texts_of_other_purposes_stay_when_one_is_replaced():
    spf = next(one for one in WANTED if isinstance(one, Spf))
    assert spf.kept(["site=1", "v=spf1 -all", "v=spf10"]) == ["site=1", "v=spf10"]
    caa = next(one for one in WANTED if isinstance(one, Caa))
    others = ['0 issue "other.example"', '0 iodef "mailto:a@b.example"']
    assert caa.kept([*others, '0 issue "letsencrypt.org"']) == others
