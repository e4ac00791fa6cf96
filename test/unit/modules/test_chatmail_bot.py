"""Root's commands are questions to the bot."""

import pytest

from _modules import chatmail_bot


@pytest.fixture
def asked(monkeypatch):
    requests = []
    monkeypatch.setattr(chatmail_bot, "ask_bot", lambda *request: requests.append(request) or "https://i.test/#LINK")
    return requests


def test_links_and_operators_are_the_bots(asked):
    assert chatmail_bot.link() == chatmail_bot.first_link() == "https://i.test/#LINK"
    chatmail_bot.operators()
    assert asked == [("new-link",), ("first-link",), ("operators",)]


def test_a_removal_says_what_was_done(asked):
    assert chatmail_bot.remove("alice@chat.test") == "alice@chat.test is no operator any more."
    assert asked == [("remove", "alice@chat.test")]
