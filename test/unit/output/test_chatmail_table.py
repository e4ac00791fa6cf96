"""Lists of mappings on a terminal are tables; bytes and times are written for people."""

import pytest

from _output import chatmail_table

ROWS = [
    {"address": "alice1234@chat.test", "size": 1536, "last_login": 86400 * 365, "banned": False},
    {"address": "bob@chat.test", "size": 0, "last_login": None, "banned": True},
]


@pytest.fixture
def configure_loader_modules():
    return {chatmail_table: {"__opts__": {"color": False}}}


def test_columns_are_aligned():
    assert chatmail_table.lines(ROWS) == [
        "address               size  last login  banned",
        "alice1234@chat.test  1.5 K  1971-01-01  no",
        "bob@chat.test          0 B           -  yes",
    ]


def test_a_part_of_a_list_says_so():
    text = chatmail_table.output({"relay": {"count": 9, "listed": ROWS}})
    assert text.splitlines()[-1] == "  2 of 9; limit=... shows more"


def test_nothing_is_said_to_be_none():
    assert chatmail_table.output({"relay": []}) == "relay:\n  none"


def test_what_is_no_table_is_printed_as_salt_does():
    assert "refused" in chatmail_table.output({"relay": "connection refused"})
