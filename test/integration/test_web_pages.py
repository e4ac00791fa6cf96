"""The pages of a relay in a real browser: fit to read, and the way from them to an account."""

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from test.relay.delivery import User
from test.support.browser import Browser, browser
from test.support.mail_clients import submission

PAGES = ("", "info", "privacy", "nothing-here")
LANGUAGES = ("ar", "de", "es", "fr", "ru")
SCREENS = [(width, scheme) for width in (375, 1280) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def chromium(one, tmp_path_factory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile"), {one.domain: one.address, f"www.{one.domain}": one.address}) as it:
        yield it


def log_in(relay, link: str) -> None:
    """Use a ``dclogin:`` link as an app does: its first login makes the account."""
    address, password = re.fullmatch(r"dclogin:([^?]+)\?p=([^&]+)&v=1&.*ic=3", link).groups()
    user = User(relay, address, unquote(password))
    user.imap().close()
    with submission(relay.address, user.address, user.password) as client:
        assert client.noop()[0] == 250


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_fit_to_read_on_each_screen(lab, one, chromium, page):
    """Screenshots of all are kept in build/screenshots, for people to look at."""
    for width, scheme in SCREENS:
        chromium.screen(width, scheme)
        chromium.open(f"https://{one.domain}/{page}")
        name = f"{page or 'index'}-{width}-{scheme}.png"
        chromium.screenshot(lab.layout.checkout / "build/screenshots" / name)
        assert {urlsplit(url).hostname for url in chromium.requests()} == {one.domain}
        assert chromium.overflow() <= 0
        texts = chromium.texts()
        assert len(texts) > 5
        # WCAG 2.2 criterion 1.4.3, level AA.
        assert [text for text in texts if text.contrast < (3 if text.large else 4.5)] == []
        complaints = chromium.complaints()
        assert all("404" in complaint for complaint in complaints)
        assert len(complaints) == (page == "nothing-here")


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_is_fit_to_read(lab, one, chromium, language):
    """The whole of each page; the translations are compared with each other in test_chatmail_texts.py."""
    for page, (width, scheme) in zip(("", "", "info", "privacy"), SCREENS, strict=True):
        chromium.screen(width, scheme)
        chromium.open(f"https://{one.domain}/{language}/{page}")
        name = f"{page or 'index'}-{language}-{width}-{scheme}.png"
        chromium.screenshot(lab.layout.checkout / "build/screenshots" / name)
        assert chromium.find("html").get_attribute("lang") == language
        assert chromium.overflow() <= 0
        assert chromium.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_code_on_the_page_is_the_link_that_is_printed_and_makes_an_account(one, chromium, scheme):
    chromium.screen(375, scheme)
    chromium.open(f"https://{one.domain}/")
    printed = chromium.find("figcaption code").text
    assert chromium.find("a.code").get_attribute("href") == printed
    assert chromium.scan("a.code") == printed
    log_in(one, printed)


def test_a_visitor_comes_from_any_page_to_an_account_by_clicks(one, chromium):
    chromium.screen(1280, "light")
    chromium.open(f"https://www.{one.domain}/privacy?from=poster")
    assert chromium.driver.current_url == f"https://{one.domain}/privacy?from=poster"
    chromium.click("header nav a[href='info']")
    assert chromium.find("h1").text == "How it works"
    chromium.click("a.home")
    link = chromium.find("a.button").get_attribute("href")
    chromium.requests()
    chromium.click("a.button")
    # Here is no app that takes it.
    WebDriverWait(chromium.driver, 10).until(lambda _: link in chromium.requests())
    assert chromium.complaints() == []
    log_in(one, link)


def test_each_visitor_gets_another_account(one, chromium):
    links = set()
    for _ in range(2):
        chromium.open(f"https://{one.domain}/")
        links.add(chromium.find("a.button").get_attribute("href"))
    assert len(links) == 2
