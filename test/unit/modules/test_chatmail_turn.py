"""The TURN secret is made once, random, and for root alone."""

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_turn


@pytest.fixture
def configure_loader_modules():
    return {chatmail_turn: {}}


def test_a_made_secret_is_usable_and_closed(tmp_path):
    secret = tmp_path / "chatmail" / "turn-secret"
    chatmail_turn.make_secret(str(secret))
    assert chatmail_turn.problem(str(secret)) == ""
    assert secret.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in secret.parent.iterdir()] == ["turn-secret"]


def test_two_secrets_differ(tmp_path):
    for name in "ab":
        chatmail_turn.make_secret(str(tmp_path / name))
    assert (tmp_path / "a").read_text() != (tmp_path / "b").read_text()


def test_an_existing_secret_is_never_replaced(tmp_path):
    secret = tmp_path / "turn-secret"
    secret.write_text("mine")
    with pytest.raises(CommandExecutionError, match="not replaced"):
        chatmail_turn.make_secret(str(secret))
    assert secret.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", ["", "short\n", "two words of which one is long enough, as it seems\n", "a\n" * 40])
def test_what_cannot_be_a_secret(tmp_path, content):
    secret = tmp_path / "turn-secret"
    secret.write_text(content)
    assert "not one word" in chatmail_turn.problem(str(secret))


def test_a_missing_secret_is_named(tmp_path):
    assert "cannot read" in chatmail_turn.problem(str(tmp_path / "none"))
