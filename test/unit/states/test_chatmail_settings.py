"""``chatmail_settings.valid`` changes nothing and lists everything that is wrong, in test mode as well."""

import pytest

from _states import chatmail_settings

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")


@pytest.fixture
def configure_loader_modules(testmode):
    return {
        chatmail_settings: {
            "__opts__": {"test": testmode},
            "__salt__": {"chatmail_settings.problems": lambda schema, pillar: pillar["wrong"]},
        }
    }


def test_valid_settings_pass_without_changes():
    ret = chatmail_settings.valid("settings-valid", {}, {"wrong": []})
    assert (ret["name"], ret["result"], ret["changes"]) == ("settings-valid", True, {})


def test_each_problem_has_a_line_of_its_own():
    ret = chatmail_settings.valid("settings-valid", {}, {"wrong": ["a: is bad.", "b: is worse."]})
    assert (ret["result"], ret["changes"]) == (False, {})
    assert ret["comment"].splitlines()[1:] == ["- a: is bad.", "- b: is worse."]


def test_without_its_execution_module_the_state_says_why_it_is_missing():
    assert chatmail_settings.__virtual__() is True
    del chatmail_settings.__salt__["chatmail_settings.problems"]
    available, reason = chatmail_settings.__virtual__()
    assert available is False
    assert "chatmail_settings" in reason
