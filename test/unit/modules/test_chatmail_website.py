"""The web pages are published as a whole or not at all."""

from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_website


@pytest.fixture
def configure_loader_modules():
    return {chatmail_website: {}}


def test_a_source_that_is_wrong_is_an_error_of_the_call(tmp_path):
    (tmp_path / "index.md").write_bytes(b"# \xff\n")
    with pytest.raises(CommandExecutionError, match=r"^index\.md is not UTF-8"):
        chatmail_website.build({"mail_domain": "chat.test", "tls_mode": "acme"}, str(tmp_path))


@pytest.fixture
def site(tmp_path) -> Path:
    """Where the pages go; the directory above is not there yet."""
    return tmp_path / "www/chatmail"


def test_pages_change_as_a_whole(site):
    old, new = {"index.html": b"1", "old/a.css": b"2"}, {"index.html": b"3", "b/c/d.css": b"4"}
    chatmail_website.publish(str(site), old)
    assert chatmail_website.published(str(site)) == old
    [before] = site.parent.glob(".chatmail-*")
    # What an interrupted apply left.
    (site.parent / ".chatmail-dead").mkdir()
    (site.parent / ".chatmail-dead.link").symlink_to(".chatmail-dead")
    chatmail_website.publish(str(site), new)
    assert chatmail_website.published(str(site)) == new
    assert site.is_symlink()
    assert not before.exists()
    assert len(list(site.parent.iterdir())) == 2


def test_the_web_server_may_read_what_is_published(site):
    chatmail_website.publish(str(site), {"a/b.html": b""})
    assert [path.stat().st_mode & 0o777 for path in (site, site / "a", site / "a/b.html")] == [0o755, 0o755, 0o644]


def test_what_stands_in_the_place_of_the_pages_is_left_alone(site):
    site.mkdir(parents=True)
    (site / "mine.html").write_text("mine")
    for change in (lambda: chatmail_website.publish(str(site), {}), lambda: chatmail_website.withdraw(str(site))):
        with pytest.raises(CommandExecutionError, match="not the formula's link: move it away"):
            change()
    assert (site / "mine.html").read_text() == "mine"


def test_withdrawn_pages_leave_nothing(site):
    chatmail_website.publish(str(site), {"index.html": b""})
    chatmail_website.withdraw(str(site))
    assert list(site.parent.iterdir()) == []
    assert chatmail_website.published(str(site)) == {}
