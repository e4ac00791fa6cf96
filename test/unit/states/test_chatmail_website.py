"""``chatmail_website.built`` changes the pages as a whole or not at all, and tells the truth in test mode."""

import pytest

from _modules import chatmail_website as module
from _states import chatmail_website

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")

SETTINGS = {"mail_domain": "chat.test", "tls_mode": "acme"}
FUNCTIONS = ("build", "published", "publish", "withdraw")


@pytest.fixture
def configure_loader_modules(testmode):
    functions = {f"chatmail_website.{name}": getattr(module, name) for name in FUNCTIONS}
    return {module: {}, chatmail_website: {"__opts__": {"test": testmode}, "__salt__": functions}}


@pytest.fixture
def pages(tmp_path):
    """Sources of the formula's."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.md").write_text("# Hello")
    (pages / "layout.html").write_text("{{ content }}")
    return pages


@pytest.fixture
def built(tmp_path, pages):
    """Apply the state, as it is called in the SLS."""

    def apply(**arguments):
        return chatmail_website.built(str(tmp_path / "www"), str(pages), SETTINGS, **arguments)

    return apply


@pytest.fixture
def site(tmp_path):
    """Pages that are published already."""
    module.publish(str(tmp_path / "www"), {"index.html": b"old", "gone.html": b"old"})
    return tmp_path / "www"


def test_pages_are_built_where_there_are_none(testmode, built, tmp_path):
    ret = built()
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"]["index.html"] == {"old": "missing", "new": "built"}
    assert (tmp_path / "www/index.html").exists() is not testmode


def test_pages_that_are_right_are_left_alone(built, site, pages):
    module.publish(str(site), module.build(SETTINGS, str(pages)))
    before = site.resolve()
    ret = built()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert site.resolve() == before


def test_what_changed_and_what_is_no_page_any_more_is_told(testmode, built, site):
    ret = built()
    assert ret["changes"] == {
        "index.html": {"old": "as it was", "new": "built"},
        "gone.html": {"old": "as it was", "new": "removed"},
        "qr.svg": {"old": "missing", "new": "built"},
    }
    assert (site / "index.html").read_bytes() == (b"old" if testmode else b"<h1>Hello</h1>")
    assert (site / "gone.html").exists() is testmode


def test_a_broken_page_leaves_the_old_ones_in_place(built, site, pages):
    (pages / "index.md").write_text("# {{ settings.nothing }}")
    ret = built()
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "the old ones stay: index.md, line 1: " in ret["comment"]
    assert ret["comment"].endswith("Fix it and apply chatmail.website.")
    assert module.published(str(site)) == {"index.html": b"old", "gone.html": b"old"}


def test_a_folder_without_a_first_page_is_refused(testmode, built, tmp_path, site):
    (tmp_path / "own").mkdir()
    ret = built(own=str(tmp_path / "own"))
    assert ret["result"] is (None if testmode else False)
    assert testmode or "there is neither index.html nor src/index.md" in ret["comment"]
    assert module.published(str(site)) == {"index.html": b"old", "gone.html": b"old"}


def test_a_directory_in_the_place_of_the_link_is_named(testmode, built, tmp_path):
    (tmp_path / "www").mkdir()
    ret = built()
    assert ret["result"] is (None if testmode else False)
    assert testmode or "move it away" in ret["comment"]


def test_without_its_libraries_the_state_says_what_is_missing(testmode, built, monkeypatch):
    monkeypatch.delitem(chatmail_website.__salt__, "chatmail_website.build")
    ret = built()
    assert ret["result"] is (None if testmode else False)
    assert testmode or "python3-markdown" in ret["comment"]


def test_pages_can_be_taken_away(testmode, site):
    ret = chatmail_website.absent(str(site))
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"]["index.html"] == {"old": "as it was", "new": "removed"}
    assert site.exists() is testmode
    if not testmode:
        assert list(site.parent.glob(".www-*")) == []


def test_where_there_are_no_pages_none_are_taken_away(tmp_path):
    ret = chatmail_website.absent(str(tmp_path / "www"))
    assert (ret["result"], ret["changes"]) == (True, {})
