"""A status on a terminal: a line for each check, nothing beyond the last column, what to do below what is wrong."""

import pytest

from _output import chatmail_status

STATUS = {
    "relay": "chat.example.org",
    "level": "error",
    "checks": [
        {"check": "disk", "level": "ok", "says": "12.1 G of 20.0 G free on /"},
        {"check": "services", "level": "error", "says": "15 of 17 run"},
        {"check": "probe", "level": "skipped", "says": "not tried before filtermail is mended"},
    ],
    "findings": [
        {"check": "services", "level": "error", "what": "filtermail is stopped: nobody can send", "do": "systemctl x"},
        {"check": "services", "level": "warning", "what": "w" * 20 + " and so on" * 9, "do": "see " + "y " * 60},
    ],
    "firewall": {"tcp": ["25", "443"], "udp": ["3478", "49152-65535"]},
    "seconds": 2.34,
}


@pytest.fixture
def configure_loader_modules():
    return {chatmail_status: {"__opts__": {"color": False}}}


def plain(text, _level):
    return text


def test_a_status_reads_from_top_to_bottom():
    assert chatmail_status.lines(STATUS, 80, plain) == [
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
        "  -        probe       not tried before filtermail is mended",
        "",
        "  open in the firewall TCP 25 443; UDP 3478 49152-65535",
    ]


def test_colours_take_no_room():
    painted = chatmail_status.lines(STATUS, 80, lambda text, level: f"<{level}>{text}</>")
    assert painted[3].startswith("  <error>FAULT    </>services    filtermail")


@pytest.mark.parametrize("width", [80, 110])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(len, chatmail_status.lines(STATUS, width, plain))) <= width


def test_what_is_no_status_is_printed_as_salt_does():
    assert "refused" in chatmail_status.output({"relay": "connection refused"})
    assert "all is well" in chatmail_status.output({"relay": STATUS | {"findings": []}})
