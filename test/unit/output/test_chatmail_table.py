"""Lists of mappings on a terminal are tables; bytes and times are written for people."""

import pytest

from _output import chatmail_table

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
    return {chatmail_table: {"__opts__": {"color": False}}}


def test_columns_are_aligned():
    assert chatmail_table.table(ROWS, 80) == [
        "address               size  last login  banned",
        "alice1234@chat.test  1.5 K  1971-01-01  no",
        "bob@chat.test          0 B           -  yes",
    ]


def test_the_last_column_takes_what_room_there_is():
    assert chatmail_table.table(WAITING, 70) == [
        "destination  messages                 since  reason",
        "a.test             12  1970-01-01 01:00 UTC  connect to",
        "                                             a.test[192.0.2.1]:25:",
        "                                             refused",
        "longer.test         1            1970-01-01  -",
    ]


def test_one_mapping_is_a_list_of_values():
    assert chatmail_table.output({"relay": ROWS[0]}).splitlines() == [
        "relay:",
        "  address     alice1234@chat.test",
        "  size        1.5 K",
        "  last login  1971-01-01",
        "  banned      no",
    ]


def test_a_part_of_a_list_says_so():
    text = chatmail_table.output({"relay": {"count": 9, "listed": ROWS}})
    assert text.splitlines()[-1] == "  2 of 9; limit=... shows more"


@pytest.mark.parametrize("nothing", [[], {"count": 0, "listed": []}])
def test_nothing_is_said_to_be_none(nothing):
    assert chatmail_table.output({"relay": nothing}) == "relay:\n  none"


@pytest.mark.parametrize("failure", ["connection refused", {"retcode": 1, "stderr": "connection refused"}])
def test_what_is_no_table_is_printed_as_salt_does(failure):
    assert "connection refused" in chatmail_table.output({"relay": failure})
