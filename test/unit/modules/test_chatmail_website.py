"""The web pages follow the settings and the operator's own files; what is wrong with a source is said with its line."""

import html.parser
import re
from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_website
from tools import web

PAGES = web.PAGES
DCLOGIN = "<!--# echo var='account_link' default='' -->"
NAMED = {"mail_domain": "chat.example.org"}
PILLARS = {
    "acme": NAMED,
    "external": NAMED | {"tls_external_cert_and_key": "/etc/ssl/own.pem /etc/ssl/own.key"},
    "self": {"mail_domain": "_chat.example.org"},
    "ipv4": {"mail_domain": "192.0.2.7"},
    "invited": NAMED | {"invite_only": True},
    "everything": NAMED
    | {"privacy_postal": "A\nB & <C>", "privacy_mail": "p@example.org", "privacy_pdo": "D", "privacy_supervisor": "E"},
}


@pytest.fixture
def configure_loader_modules():
    return {chatmail_website: {}}


@pytest.fixture(scope="module")
def settings() -> dict[str, dict]:
    """What map.jinja makes of each pillar."""
    return {name: web.settings(pillar) for name, pillar in PILLARS.items()}


@pytest.fixture
def acme(settings) -> dict:
    return settings["acme"]


class Page(html.parser.HTMLParser):
    """What a page has: its elements with their attributes, and its text."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(content.decode())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, *tags: str) -> list[dict]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.mark.parametrize("mode", ["acme", "external"])
def test_a_trusted_certificate_makes_a_link_for_everybody(settings, mode):
    built = chatmail_website.build(settings[mode], PAGES)
    link = "DCACCOUNT:https://chat.example.org/new"
    page = Page(built["index.html"])
    assert [a["href"] for a in page.all("a") if a.get("class") in ("button", "code")] == [link, link]
    assert link in page.text
    assert "/qr.svg" in [image["src"] for image in page.all("img")]
    assert built["qr.svg"] == chatmail_website.qr_code(link)


@pytest.mark.parametrize("mode", ["self", "ipv4"])
def test_a_self_signed_certificate_makes_a_login_for_each_visitor(settings, mode):
    built = chatmail_website.build(settings[mode], PAGES)
    page = built["index.html"].decode()
    assert page.startswith('<!--# include virtual="/account-link" set="account_link" wait="yes" --><!DOCTYPE html>')
    assert page.count(f'href="{DCLOGIN}"') == 2
    assert f'src="/account-qr?{DCLOGIN}"' in page
    assert f"<code>{DCLOGIN}</code>" in page
    assert "qr.svg" not in built
    assert b"<!--#" not in built["info.html"] + built["privacy.html"]


def test_the_page_of_a_relay_for_invited_people_has_no_link(settings):
    page = Page(chatmail_website.build(settings["invited"], PAGES)["index.html"])
    assert "DCACCOUNT" not in page.text
    assert not [a for a in page.all("a") if a.get("class") in ("button", "code")]
    assert "invited people" in page.text


@pytest.mark.parametrize("mode", PILLARS)
@pytest.mark.parametrize("name", ["index.html", "info.html", "privacy.html", "404.html"])
def test_pages_are_sound(settings, mode, name):
    content = chatmail_website.build(settings[mode], PAGES)[name]
    page = Page(content)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) == len(page.all("main")) == len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(level <= before + 1 for before, level in zip([0, *levels], levels, strict=False))
    assert all("alt" in image for image in page.all("img"))
    assert page.all("script", "style", "iframe", "object", "form") == []
    # Nothing that the security policy forbids, and nothing from another host.
    assert not [attributes for _, attributes in page.elements if "style" in attributes]
    loaded = [element.get("src") or element.get("href") for element in page.all("img", "link")]
    assert not [url for url in loaded if re.match(r"(\w+:)?//", url)]
    assert "{{" not in page.text
    assert "None" not in page.text


def test_who_runs_the_relay_stands_on_the_pages_in_his_own_characters(settings):
    built = chatmail_website.build(settings["everything"], PAGES)
    assert "A\nB & <C>" in Page(built["privacy.html"]).text
    for name in ("privacy.html", "info.html"):
        assert "mailto:p@example.org" in [a["href"] for a in Page(built[name]).all("a")]


def test_the_contact_stands_in_the_footer_of_every_page_and_who_wakes_devices_on_the_privacy_page():
    for contact, link, words in (
        ("me@example.org", "mailto:me@example.org", "me@example.org"),
        ("https://i.delta.chat/#01&a=b%40c", "https://i.delta.chat/#01&a=b%40c", "a chat"),
    ):
        built = chatmail_website.build(web.settings(NAMED | {"contact": contact}), PAGES)
        for name in ("index.html", "info.html", "privacy.html", "404.html"):
            page = Page(built[name])
            assert link in [a["href"] for a in page.all("a")]
            assert f"Run by {words}" in page.text
    assert "notifications.delta.chat" in Page(built["privacy.html"]).text
    none = chatmail_website.build(web.settings(NAMED | {"notification_url": ""}), PAGES)
    assert "Run by" not in Page(none["index.html"]).text
    assert "wakes nobody" in Page(none["privacy.html"]).text


def test_own_sources_take_the_place_of_the_formulas_file_by_file(acme, tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    (source / "index.md").write_text("# Hello from {{ settings.mail_domain }}\n")
    (source / "logo.svg").write_text("<svg/>")
    (source / "rules.md").write_text("# Rules\n")
    built = chatmail_website.build(acme, PAGES, tmp_path)
    assert built.keys() >= {"index.html", "info.html", "privacy.html", "rules.html", "main.css", "logo.svg", "qr.svg"}
    assert "<h1>Hello from chat.example.org</h1>" in built["index.html"].decode()
    assert "<h1>How it works</h1>" in built["info.html"].decode()
    assert built["logo.svg"] == b"<svg/>"


def test_a_folder_without_sources_is_published_as_it_is(acme, tmp_path):
    for path in ("index.html", "pictures/one.png", ".well-known/security.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"{{ as it is }}\xff" if path.endswith("png") else b"{{ as it is }}")
    for path in (".git/config", ".index.html.swp", "index.html~"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("not for the public")
    assert chatmail_website.build(acme, PAGES, tmp_path) == {
        ".well-known/security.txt": b"{{ as it is }}",
        "index.html": b"{{ as it is }}",
        "pictures/one.png": b"{{ as it is }}\xff",
    }


BROKEN = {
    "unknown": ("# A\n\n{{ settings.no_such }}\n", r"^index\.md, line 3: .*no_such"),
    "syntax": ("# A\n{% if %}\n", r"^index\.md, line 2: "),
    "filter": ("# A\n\n\n{{ 1 | nosuch }}", r"^index\.md, line 4: .*nosuch"),
    "type": ("\n{{ 'a' + 1 }}", r"^index\.md, line 2: "),
    "division": ("\n\n{{ 1 // 0 }}", r"^index\.md, line 3: "),
    "include": ("{% include 'nothing.md' %}", r"^index\.md, line 1: there is no nothing\.md"),
    "merge": ("# A\n<<<<<<< HEAD\n", r"^index\.md, line 2: a merge was not finished"),
    "octets": (b"# \xff\n", r"^index\.md is not UTF-8"),
}


@pytest.mark.parametrize("content, message", BROKEN.values(), ids=BROKEN)
def test_a_broken_page_is_named_with_its_line(acme, tmp_path, content, message):
    page = tmp_path / "src/index.md"
    page.parent.mkdir()
    page.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CommandExecutionError, match=message):
        chatmail_website.build(acme, PAGES, tmp_path)


def test_a_broken_layout_is_named_with_its_line(acme, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/index.md").write_text("# A\n")
    (tmp_path / "src/layout.html").write_text("<html>\n{{ contents }}\n")
    with pytest.raises(CommandExecutionError, match=r"^layout\.html, line 2: 'contents' is undefined"):
        chatmail_website.build(acme, PAGES, tmp_path)


def test_an_unfinished_merge_is_found_in_pages_that_stay_as_they_are(acme, tmp_path):
    (tmp_path / "index.html").write_text("<p>\n>>>>>>> theirs\n")
    with pytest.raises(CommandExecutionError, match=r"^index\.html, line 2: a merge"):
        chatmail_website.build(acme, PAGES, tmp_path)


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
