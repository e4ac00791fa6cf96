"""The apply says how to reach the echobot, and changes nothing by it."""

from unittest.mock import Mock

import pytest
from salt.exceptions import CommandExecutionError

from _states import chatmail_echobot


@pytest.fixture
def link():
    return Mock(return_value="https://i.test/#LINK")


@pytest.fixture
def configure_loader_modules(link, testmode):
    dunders = {"__salt__": {"chatmail_echobot.link": link}, "__opts__": {"test": testmode}}
    return {chatmail_echobot: dunders}


def test_the_comment_is_the_link(testmode):
    result = chatmail_echobot.invites("echobot-link")
    assert (result["result"], result["changes"]) == (True, {})
    assert "https://i.test/#LINK" in result["comment"]


def test_without_a_link_an_apply_fails_and_a_test_tells_of_the_first_start(link, testmode):
    link.side_effect = CommandExecutionError("see `systemctl status echobot`")
    result = chatmail_echobot.invites("echobot-link")
    assert (result["result"], result["changes"]) == (testmode, {})
    assert result["comment"] == (
        "the echobot's first start will make its invite link" if testmode else "see `systemctl status echobot`"
    )
