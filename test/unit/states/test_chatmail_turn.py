"""``chatmail_turn.secret_present`` makes a secret once, never shows one, and tells the truth in test mode."""

import pytest

from _modules import chatmail_turn as module
from _states import chatmail_turn

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")


@pytest.fixture
def configure_loader_modules(testmode):
    return {
        module: {},
        chatmail_turn: {
            "__opts__": {"test": testmode},
            "__salt__": {"chatmail_turn.problem": module.problem, "chatmail_turn.make_secret": module.make_secret},
        },
    }


def test_a_missing_secret_is_made_and_not_shown(testmode, tmp_path):
    secret = tmp_path / "turn-secret"
    ret = chatmail_turn.secret_present(str(secret))
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"] == {str(secret): {"old": "missing", "new": "random secret"}}
    assert secret.exists() is not testmode
    assert testmode or secret.read_text().strip() not in str(ret)


def test_a_good_secret_is_left_alone(tmp_path):
    secret = tmp_path / "turn-secret"
    module.make_secret(str(secret))
    before = secret.read_text()
    ret = chatmail_turn.secret_present(str(secret))
    assert (ret["result"], ret["changes"], secret.read_text()) == (True, {}, before)


def test_an_unusable_secret_is_kept_and_the_next_step_named(tmp_path):
    secret = tmp_path / "turn-secret"
    secret.write_text("nonsense")
    ret = chatmail_turn.secret_present(str(secret))
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "Remove the file and apply again" in ret["comment"]
    assert secret.read_text() == "nonsense"
