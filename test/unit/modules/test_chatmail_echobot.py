"""An operator reads the link to the echobot."""

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_echobot


@pytest.fixture
def configure_loader_modules():
    return {chatmail_echobot: {}}


def test_the_link_is_what_the_bot_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(chatmail_echobot, "LINK", str(tmp_path / "invite-link.txt"))
    (tmp_path / "invite-link.txt").write_text("https://i.test/#LINK\n")
    assert chatmail_echobot.link() == "https://i.test/#LINK"


def test_where_there_is_none_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(chatmail_echobot, "LINK", str(tmp_path / "invite-link.txt"))
    with pytest.raises(CommandExecutionError, match="Set `echobot: true`"):
        chatmail_echobot.link()
