"""What functions return, as an operator reads it."""

import pytest

from _output import chatmail
from test.salt.minion import CHECKOUT

STATUS = {
    "relay": "chat.example.org",
    "level": "error",
    "checks": [
        {"check": "disk", "level": "ok", "says": "12.1 G of 20.0 G free on /"},
        {"check": "services", "level": "error", "says": "15 of 17 run"},
        {"check": "probe", "level": "skipped", "says": "not tried before filtermail is fixed"},
    ],
    "findings": [
        {"check": "services", "level": "error", "what": "filtermail is stopped: nobody can send", "do": "systemctl x"},
        {"check": "services", "level": "warning", "what": "w" * 20 + " and so on" * 9, "do": "see " + "y " * 60},
    ],
    "firewall": {"tcp": ["25", "443"], "udp": ["3478", "49152-65535"]},
    "seconds": 2.34,
}
ROWS = [
    {"address": "alice1234@chat.test", "size": 1536, "last_login": 86400 * 365, "banned": False},
    {"address": "bob@chat.test", "size": 0, "last_login": None, "banned": True},
]
WAITING = [
    {"destination": "a.test", "messages": 12, "since": 3600, "reason": "connect to a.test[192.0.2.1]:25: refused"},
    {"destination": "longer.test", "messages": 1, "since": 0, "reason": ""},
]


@pytest.fixture
def configure_loader_modules():
    return {chatmail: {"__opts__": {"color": False, "module_dirs": [str(CHECKOUT / "etc/ext")]}}}


@pytest.mark.parametrize(
    ("result", "text"),
    [
        pytest.param("; a zone\na. 3600 IN A 192.0.2.1\n", "; a zone\na. 3600 IN A 192.0.2.1", id="text"),
        pytest.param({"success": True, "result": "Well."}, "Well.", id="result"),
        pytest.param({"success": False, "result": "Bad.", "report": "All of it."}, "All of it.", id="report"),
        pytest.param({"name": "a.", "type": "TXT", "value": "v=1"}, "TXT    a.  v=1", id="record"),
        pytest.param(
            [
                {"name": "a.", "type": "MX", "values": ["10 a."], "required": True},
                {"name": "a.", "type": "A", "values": [], "required": False},
            ],
            "required     MX     a.  10 a.\nrecommended  A      a.  not known yet",
            id="records",
        ),
        pytest.param(
            {
                "certificates": [
                    {
                        "names": ["a.test", "b.test"],
                        "issuer": "itself",
                        "days_left": 89,
                        "places": [{"port": 25, "daemon": "postfix"}, {"port": 993, "daemon": "dovecot"}],
                    }
                ],
                "not_served": [{"port": 443, "daemon": "nginx", "problem": "refused"}],
            },
            "a.test, b.test; issued by itself; 89 days left\n  25 postfix, 993 dovecot\n"
            "not served\n  443 nginx: refused",
            id="certificates",
        ),
    ],
)
def test_results_are_told_in_few_lines(result, text):
    assert chatmail.output({"relay": result}) == text


@pytest.mark.parametrize(
    "result",
    [
        "\x1b[2J",
        {"result": "\x1b[2J"},
        [{"name": "a.", "type": "TXT", "values": ["\x1b[2J"]}],
        {"\x1b[2J": 1, "success": True},
        STATUS | {"findings": [STATUS["findings"][0] | {"what": "\x1b[2J"}]},
    ],
)
def test_what_a_host_says_does_not_command_the_terminal(result):
    told = chatmail.output({"relay": result})
    assert "?[2J" in told
    assert "\x1b" not in told


def test_marks_have_a_color_on_a_terminal(monkeypatch):
    monkeypatch.setitem(chatmail.__opts__, "color", True)
    good, bad = chatmail.output({"relay": {"report": "✓ A\n✗ MX"}}).split("\n")
    assert "32m✓" in good
    assert "31m✗" in bad
    assert good.endswith(" A")


def test_what_has_no_known_form_is_shown_by_salt():
    assert "relay:" in chatmail.output({"relay": {"success": 1}})


def test_columns_are_aligned():
    assert chatmail.table(ROWS, 80) == [
        "address               size  last login  banned",
        "alice1234@chat.test  1.5 K  1971-01-01  no",
        "bob@chat.test          0 B           -  yes",
    ]


def test_the_last_column_takes_what_room_there_is():
    assert chatmail.table(WAITING, 70) == [
        "destination  messages                 since  reason",
        "a.test             12  1970-01-01 01:00 UTC  connect to",
        "                                             a.test[192.0.2.1]:25:",
        "                                             refused",
        "longer.test         1            1970-01-01  -",
    ]


def test_one_mapping_is_a_list_of_values():
    assert chatmail.output({"relay": ROWS[0]}).splitlines() == [
        "relay:",
        "  address     alice1234@chat.test",
        "  size        1.5 K",
        "  last login  1971-01-01",
        "  banned      no",
    ]


def test_a_part_of_a_list_says_so():
    text = chatmail.output({"relay": {"count": 9, "listed": ROWS}})
    assert text.splitlines()[-1] == "  2 of 9; limit=... shows more"


@pytest.mark.parametrize("nothing", [[], {"count": 0, "listed": []}])
def test_nothing_is_said_to_be_none(nothing):
    assert chatmail.output({"relay": nothing}) == "relay:\n  none"


@pytest.mark.parametrize("failure", ["connection refused", {"retcode": 1, "stderr": "connection refused"}])
def test_what_is_no_table_is_printed_as_salt_does(failure):
    assert "connection refused" in chatmail.output({"relay": failure})


def plain(text, _color):
    return text


def test_a_status_reads_from_top_to_bottom():
    assert chatmail.status(STATUS, 80, plain) == [
        "chat.example.org: 1 fault, 1 warning                                       2.3 s",
        "",
        "  ok       disk        12.1 G of 20.0 G free on /",
        "  FAULT    services    filtermail is stopped: nobody can send",
        "                   do  systemctl x",
        "  WARNING              wwwwwwwwwwwwwwwwwwww and so on and so on and so on and so",
        "                       on and so on and so on and so on and so on and so on",
        "                   do  see y y y y y y y y y y y y y y y y y y y y y y y y y y y",
        "                       y y y y y y y y y y y y y y y y y y y y y y y y y y y y y",
        "                       y y y y",
        "  -        probe       not tried before filtermail is fixed",
        "",
        "  open in the firewall TCP 25 443; UDP 3478 49152-65535",
    ]


def test_colours_take_no_room():
    painted = chatmail.status(STATUS, 80, lambda text, color: f"<{color}>{text}</>")
    assert painted[3].startswith("  <LIGHT_RED>FAULT    </>services    filtermail")


@pytest.mark.parametrize("width", [80, 110])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(len, chatmail.status(STATUS, width, plain))) <= width


def test_what_is_not_a_status_is_printed_as_salt_does():
    assert "refused" in chatmail.output({"relay": "connection refused"})
    assert "all is well" in chatmail.output({"relay": STATUS | {"findings": []}})
