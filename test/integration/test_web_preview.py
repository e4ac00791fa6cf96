"""``make web`` with a real browser: what is written is seen without a click, and so is what is wrong with it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from selenium.common.exceptions import WebDriverException
from selenium.webdriver.support.ui import WebDriverWait

from test.support.browser import browser
from tools.web import CHECKOUT

SEEN_WITHIN_S = 30


@contextmanager
def preview(*arguments: str | Path) -> Iterator[tuple[str, IO[str]]]:
    """Run the preview on any port; returns its address, and what it says from then on."""
    command = [sys.executable, "-m", "tools.web", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split()[0]
            assert process.stdout.readline() == "built\n"
            yield address, process.stdout
        finally:
            process.terminate()


def test_what_is_written_is_seen_without_a_click_and_so_is_what_is_wrong_with_it(tmp_path):
    page = tmp_path / "own/src/index.md"
    page.parent.mkdir(parents=True)
    page.write_text("# First\n")
    with preview("--folder", tmp_path / "own") as (address, said), browser(tmp_path / "profile", {}) as chromium:

        def shows(heading: str, text: str = "") -> None:
            # While the page loads again there are moments without a heading.
            wait = WebDriverWait(chromium.driver, SEEN_WITHIN_S, 0.1, [WebDriverException])
            wait.until(lambda _: heading in chromium.find("h1").text and text in chromium.find("body").text)

        chromium.open(address)
        shows("First")
        page.write_text("# Second\n")
        shows("Second")
        assert said.readline() == "built index.md\n"
        page.write_text("# Third\n\n{{ settings.nothing }}\n")
        shows("The pages cannot be built", "index.md, line 3: ")
        assert said.readline().startswith("index.md, line 3: ")
        page.write_text("# Fourth from {{ settings.mail_domain }}\n")
        shows("Fourth from chat.example.org")


def test_the_defaults_show_a_code_that_can_be_scanned(tmp_path):
    link = "DCACCOUNT:https://chat.example.org/new"
    with preview() as (address, _), browser(tmp_path / "profile", {}) as chromium:
        chromium.screen(375, "dark")
        chromium.open(address)
        assert {urlsplit(url).hostname for url in chromium.requests()} == {"127.0.0.1"}
        assert chromium.find("figcaption code").text == link
        # The scheme as browsers write it.
        assert chromium.find("a.button").get_attribute("href") == link.replace("DCACCOUNT", "dcaccount")
        assert chromium.scan("a.code") == link
        assert chromium.complaints() == []
