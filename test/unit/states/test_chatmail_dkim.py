"""``chatmail_dkim.key_present`` makes a key once, never replaces one, and tells the truth in test mode."""

import pytest

from _modules import chatmail_dkim as module
from _states import chatmail_dkim

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")


@pytest.fixture
def configure_loader_modules(testmode):
    return {
        module: {},
        chatmail_dkim: {
            "__opts__": {"test": testmode},
            "__salt__": {
                "chatmail_dkim.problem": module.problem,
                "chatmail_dkim.make_key": module.make_key,
                "chatmail_dkim.selector": module.selector,
            },
        },
    }


def test_a_missing_key_is_made(testmode, tmp_path):
    key = tmp_path / "opendkim.private"
    ret = chatmail_dkim.key_present(str(tmp_path))
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"][str(key)]["old"] == "missing"
    assert key.exists() is not testmode
    assert "PRIVATE" not in str(ret)


def test_a_good_key_is_left_alone(tmp_path):
    key = tmp_path / "opendkim.private"
    module.make_key(str(key))
    ret = chatmail_dkim.key_present(str(tmp_path))
    assert (ret["result"], ret["changes"]) == (True, {})


def test_after_a_rotation_the_key_that_signs_is_looked_at(tmp_path):
    module.make_key(str(tmp_path / "opendkim2.private"))
    (tmp_path / "KeyTable").write_text(f"chat.test chat.test:opendkim2:{tmp_path}/opendkim2.private\n")
    ret = chatmail_dkim.key_present(str(tmp_path))
    assert (ret["result"], ret["changes"]) == (True, {})
    assert "opendkim2.private is a usable key" in ret["comment"]
    assert not (tmp_path / "opendkim.private").exists()


def test_an_unusable_key_is_kept_and_the_next_step_named(tmp_path):
    key = tmp_path / "opendkim.private"
    key.write_text("nonsense")
    ret = chatmail_dkim.key_present(str(tmp_path))
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "move the file away" in ret["comment"]
    assert key.read_text() == "nonsense"


def test_a_directory_that_cannot_be_made_is_a_failure(testmode, tmp_path):
    ret = chatmail_dkim.key_present(str(tmp_path / "none" / "keys"))
    assert ret["result"] is (None if testmode else False)
