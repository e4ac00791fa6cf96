"""The web pages follow the settings and the operator's own files; what is wrong with a source is said with its line."""

import functools
import html.parser
import re
from collections.abc import Mapping

import pytest

import chatmail_pages
from chatmail_texts import SourceError
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


@functools.cache
def settings(name: str) -> Mapping:
    """What map.jinja makes of a pillar."""
    return web.settings(PILLARS[name])


@functools.cache
def pages(name: str) -> Mapping[str, bytes]:
    """The formula's pages with a pillar."""
    return chatmail_pages.build(settings(name), PAGES)


@pytest.fixture
def acme() -> Mapping:
    return settings("acme")


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
def test_a_trusted_certificate_makes_a_link_for_everybody(mode):
    built = pages(mode)
    link = "DCACCOUNT:https://chat.example.org/new"
    page = Page(built["index.html"])
    assert [a["href"] for a in page.all("a") if a.get("class") in ("button", "code")] == [link, link]
    assert link in page.text
    assert "/qr.svg" in [image["src"] for image in page.all("img")]
    assert built["qr.svg"] == chatmail_pages.qr_code(link)


@pytest.mark.parametrize("mode", ["self", "ipv4"])
def test_a_self_signed_certificate_makes_a_login_for_each_visitor(mode):
    built = pages(mode)
    page = built["index.html"].decode()
    assert page.startswith('<!--# include virtual="/account-link" set="account_link" wait="yes" --><!DOCTYPE html>')
    assert page.count(f'href="{DCLOGIN}"') == 2
    assert f'src="/account-qr?{DCLOGIN}"' in page
    assert f"<code>{DCLOGIN}</code>" in page
    assert "qr.svg" not in built
    assert b"<!--#" not in built["info.html"] + built["privacy.html"]
    assert f'href="{DCLOGIN}"' in built["ar/index.html"].decode()


def test_the_page_of_a_relay_for_invited_people_has_no_link():
    page = Page(pages("invited")["index.html"])
    assert "DCACCOUNT" not in page.text
    assert not [a for a in page.all("a") if a.get("class") in ("button", "code")]
    assert "invited people" in page.text


@pytest.mark.parametrize("mode", PILLARS)
@pytest.mark.parametrize("name", ["index.html", "info.html", "privacy.html", "404.html"])
def test_pages_are_sound(mode, name):
    content = pages(mode)[name]
    page = Page(content)
    assert page.all("html") == [{"lang": "en", "dir": "ltr"}]
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


def test_who_runs_the_relay_stands_on_the_pages_in_his_own_characters():
    built = pages("everything")
    assert "A\nB & <C>" in Page(built["privacy.html"]).text
    for name in ("privacy.html", "info.html"):
        assert "mailto:p@example.org" in [a["href"] for a in Page(built[name]).all("a")]


def test_the_contact_stands_in_the_footer_of_every_page_and_who_wakes_devices_on_the_privacy_page():
    for contact, link, words in (
        ("me@example.org", "mailto:me@example.org", "me@example.org"),
        ("https://i.delta.chat/#01&a=b%40c", "https://i.delta.chat/#01&a=b%40c", "chat with the operator"),
    ):
        built = chatmail_pages.build(web.settings(NAMED | {"contact": contact}), PAGES)
        for name in ("index.html", "info.html", "privacy.html", "404.html"):
            page = Page(built[name])
            assert link in [a["href"] for a in page.all("a")]
            assert f"Contact: {words}" in page.text
    assert "notifications.delta.chat" in Page(built["privacy.html"]).text
    none = chatmail_pages.build(web.settings(NAMED | {"notification_url": ""}), PAGES)
    assert "Contact:" not in Page(none["index.html"]).text
    assert "wakes nobody" in Page(none["privacy.html"]).text


def test_own_sources_take_the_place_of_the_formulas_file_by_file(acme, tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    (source / "index.md").write_text("# Hello from {{ settings.mail_domain }}\n")
    (source / "logo.svg").write_text("<svg/>")
    (source / "rules.md").write_text("# Rules\n")
    built = chatmail_pages.build(acme, PAGES, tmp_path)
    # In their language alone, until they ask for others.
    assert not built.keys() & {"de/index.html", "en/index.html", "de/rules.html"}
    assert built.keys() >= {
        "de/info.html",
        "index.html",
        "info.html",
        "privacy.html",
        "rules.html",
        "main.css",
        "logo.svg",
        "qr.svg",
    }
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
    assert chatmail_pages.build(acme, PAGES, tmp_path) == {
        ".well-known/security.txt": b"{{ as it is }}",
        "index.html": b"{{ as it is }}",
        "pictures/one.png": b"{{ as it is }}\xff",
    }


LANGUAGES = ("ar", "de", "en", "es", "fr", "ru")


@pytest.mark.parametrize("mode", ["self", "invited", "everything"])
def test_each_page_is_there_in_each_language(mode):
    built = pages(mode)
    for name in ("index", "info", "privacy", "404"):
        of_page = {language: Page(built[f"{language}/{name}.html"]) for language in LANGUAGES}
        for language, page in of_page.items():
            assert page.all("html") == [{"lang": language, "dir": "rtl" if language == "ar" else "ltr"}]
            assert "{" not in page.text
            # The same page in other words: what it consists of, and where it leads to. Arabic has no slanted letters.
            tags = [[tag for tag, _ in one.elements if tag != "em"] for one in (page, of_page["en"])]
            assert tags[0] == tags[1]
            assert [a.get("href") for a in page.all("a")] == [a.get("href") for a in of_page["en"].all("a")]
        assert len({page.text for page in of_page.values()}) == len(LANGUAGES)
        assert built[f"{name}.html"] == built[f"en/{name}.html"]


def test_whoever_has_chosen_a_language_keeps_it(acme):
    page = Page(pages("acme")["de/info.html"])
    links = [a["href"] for a in page.all("a") if "://" not in a["href"]]
    assert links == ["./", "info", "privacy", *(f"/{language}/info" for language in LANGUAGES)]
    # This page may stand at any path.
    assert Page(pages("acme")["de/404.html"]).all("a")[0]["href"] == "/"


def test_own_pages_may_be_in_several_languages_or_in_another_one(acme, tmp_path):
    (tmp_path / "src/texts").mkdir(parents=True)
    (tmp_path / "src/index.md").write_text('{% set language = "de" %}\n# Hallo\n')
    (tmp_path / "src/rules.md").write_text('# {{ {"de": "Regeln"}.get(language, "Rules") }}\n\n{{ text.my_rule }}\n')
    (tmp_path / "src/texts/en.yaml").write_text("my_rule: Be kind.\n")
    (tmp_path / "src/texts/it.yaml").write_text("name: Italiano\ninfo_title: Come funziona\n")
    built = {name: page.decode() for name, page in chatmail_pages.build(acme, PAGES, tmp_path).items()}
    assert '<html lang="de" dir="ltr">' in built["index.html"]
    assert "So funktioniert es" in built["index.html"]
    assert "de/index.html" not in built
    assert "<h1>Regeln</h1>" in built["de/rules.html"]
    assert "<h1>Rules</h1>" in built["rules.html"]
    assert "<p>Be kind.</p>" in built["ru/rules.html"]
    assert "<h1>Come funziona</h1>" in built["it/info.html"]
    # What a language does not say is said in English.
    assert "<h2>Your account</h2>" in built["it/info.html"]


def test_a_layout_that_knows_no_languages_has_english_pages(acme, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/index.md").write_text("# A\n")
    (tmp_path / "src/layout.html").write_text('<html lang="en">{{ content }}')
    built = chatmail_pages.build(acme, PAGES, tmp_path)
    assert {name for name in built if name.endswith(".html")} == {
        f"{n}.html" for n in ("index", "info", "privacy", "404")
    }
    assert b"<h1>How it works</h1>" in built["info.html"]


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
    with pytest.raises(SourceError, match=message):
        chatmail_pages.build(acme, PAGES, tmp_path)


def test_a_broken_layout_is_named_with_its_line(acme, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/index.md").write_text("# A\n")
    (tmp_path / "src/layout.html").write_text("<html>\n{{ contents }}\n")
    with pytest.raises(SourceError, match=r"^layout\.html, line 2: 'contents' is undefined"):
        chatmail_pages.build(acme, PAGES, tmp_path)


def test_an_unfinished_merge_is_found_in_pages_that_stay_as_they_are(acme, tmp_path):
    (tmp_path / "index.html").write_text("<p>\n>>>>>>> theirs\n")
    with pytest.raises(SourceError, match=r"^index\.html, line 2: a merge"):
        chatmail_pages.build(acme, PAGES, tmp_path)
