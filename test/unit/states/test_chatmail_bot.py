"""The apply prints the link for the first operator, and changes nothing by it."""

from unittest.mock import Mock

import pytest
from salt.exceptions import CommandExecutionError

from _states import chatmail_bot


@pytest.fixture
def link():
    return Mock(return_value="https://i.test/#LINK")


@pytest.fixture
def configure_loader_modules(link, testmode):
    dunders = {"__salt__": {"chatmail_bot.first_link": link}, "__opts__": {"test": testmode}}
    return {chatmail_bot: dunders}


def test_while_nobody_has_joined_the_link_is_a_warning_so_that_the_outcome_ends_with_it(testmode):
    result = chatmail_bot.invites("operator_bot-link")
    assert (result["result"], result["changes"]) == (True, {})
    assert "https://i.test/#LINK" in result["comment"]
    assert ("https://i.test/#LINK" in "".join(result.get("warnings", ()))) is not testmode


def test_where_somebody_has_joined_no_link_is_printed(link, testmode):
    link.return_value = None
    result = chatmail_bot.invites("operator_bot-link")
    assert (result["result"], result["changes"]) == (True, {})
    assert "chatmail_bot.link" in result["comment"]
    assert "warnings" not in result


def test_without_a_bot_an_apply_fails_and_a_test_tells_of_the_first_start(link, testmode):
    link.side_effect = CommandExecutionError("see `systemctl status operator-bot`")
    result = chatmail_bot.invites("operator_bot-link")
    assert (result["result"], result["changes"]) == (testmode, {})
    assert result["comment"] == (
        "the first start of the operator's bot will make its link"
        if testmode
        else "see `systemctl status operator-bot`"
    )
