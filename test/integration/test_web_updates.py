"""``state.apply chatmail.website``: operators' own pages, all at once or not at all."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from test.integration.conftest import PERMISSIVE
from test.integration.test_web_server import ask
from test.lab.saltconf import SaltFailed
from test.relay.delivery import Relay

APPLY = ("state.apply", "chatmail.website")


@pytest.fixture
def own(lab, two) -> Iterator[Path]:
    """A directory with an operator's own pages, which the second relay has in its pillar."""
    folder = Path(tempfile.mkdtemp(prefix="pages-", dir=lab.layout.checkout / "etc/roots"))
    usual = {"mail_domain": two.domain, **PERMISSIVE}
    lab.pillar(two.domain, {"chatmail": usual | {"www_folder": f"salt://{folder.name}"}})
    yield folder
    shutil.rmtree(folder)
    lab.pillar(two.domain, {"chatmail": usual})
    lab.salt_ssh(two.domain, *APPLY)


def changed(states: dict) -> set[str]:
    return {state["__id__"] for state in states.values() if state["changes"]}


class Reader(threading.Thread):
    """Reads a page again and again."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(daemon=True)
        self.relay = relay
        self.seen: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            answer = ask(self.relay, "/page.html")
            self.seen.append(answer.body if answer.status == 200 else str(answer.status))
            time.sleep(0.02)


def test_own_pages_take_effect_at_once_and_broken_ones_not_at_all(lab, two, two_host, own):
    (own / "index.html").write_text("<h1>As it is</h1>{{ not filled in }}")
    (own / "page.html").write_text("old " * 20_000)
    states = lab.salt_ssh(two.domain, *APPLY)
    assert changed(states) == {"preflight-settings", "website-own-sources", "website-built"}
    assert ask(two, "/").body == "<h1>As it is</h1>{{ not filled in }}"
    assert ask(two, "/info").status == 404
    assert changed(lab.salt_ssh(two.domain, *APPLY)) == set()

    # Now with Markdown sources, while somebody reads.
    (own / "src").mkdir()
    (own / "src/index.md").write_text("# Filled in for {{ settings.mail_domain }}\n")
    (own / "src/page.html").write_text("new " * 20_000)
    reader = Reader(two)
    reader.start()
    lab.salt_ssh(two.domain, *APPLY)
    reader.stop.set()
    reader.join()
    assert set(reader.seen) <= {"old " * 20_000, "new " * 20_000}
    assert ask(two, "/page.html").body == "new " * 20_000
    assert f"<h1>Filled in for {two.domain}</h1>" in ask(two, "/").body
    assert "<h1>How it works</h1>" in ask(two, "/info").body

    (own / "src/index.md").write_text("# Filled in\n\nby {{ settings.operator }}\n")
    with pytest.raises(SaltFailed, match=r"the old ones stay: index\.md, line 3: .*operator.*Fix it and apply"):
        lab.salt_ssh(two.domain, *APPLY)
    assert f"<h1>Filled in for {two.domain}</h1>" in ask(two, "/").body
    assert len(two_host.run(["sh", "-c", "ls -A /var/www | grep chatmail"]).stdout.split()) == 2


def test_a_relay_without_pages_still_makes_addresses(lab, two, two_host):
    usual = {"mail_domain": two.domain, **PERMISSIVE}
    lab.pillar(two.domain, {"chatmail": usual | {"www_folder": "disabled"}})
    lab.salt_ssh(two.domain, *APPLY)
    assert ask(two, "/").status == 404
    assert ask(two, "/new", "POST").status == 200
    assert "chatmail" not in two_host.run(["ls", "-A", "/var/www"]).stdout
    lab.pillar(two.domain, {"chatmail": usual})
    assert changed(lab.salt_ssh(two.domain, *APPLY)) == {"preflight-settings", "website-built"}
    assert ask(two, "/").status == 200
