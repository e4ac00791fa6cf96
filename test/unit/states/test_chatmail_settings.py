"""``chatmail_settings.valid`` says all that is wrong, and changes nothing."""

import pytest

from _states import chatmail_settings

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")


@pytest.fixture
def configure_loader_modules(testmode):
    return {chatmail_settings: {"__opts__": {"test": testmode}}}


def test_valid_settings_change_nothing():
    ret = chatmail_settings.valid("settings-valid", problems=[])
    assert ret == {"name": "settings-valid", "changes": {}, "result": True, "comment": "The settings are valid."}


def test_every_problem_is_in_the_comment_which_says_that_nothing_was_changed():
    ret = chatmail_settings.valid("settings-valid", problems=["a: first.", "b: second."], notices=["c: third."])
    assert ret["result"] is False
    assert ret["changes"] == {}
    assert "nothing on the host was changed" in ret["comment"]
    assert ret["comment"].splitlines()[1:] == ["- a: first.", "- b: second."]
    assert ret["warnings"] == ["c: third."]
