"""The preview builds what a relay would, says what is wrong, and tells the browser of changes; without a browser."""

import http.client
import itertools
import threading
import time
from http.server import ThreadingHTTPServer

import pytest

from tools import web


@pytest.fixture
def ask():
    """Serve a preview; returns what asks it: status, fields and body."""
    servers = []

    def serve(preview):
        handler = type("Handler", (web.Handler,), {"preview": preview, "policy": "default-src 'self'"})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)

        def get(path):
            client = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
            client.request("GET", path)
            response = client.getresponse()
            return response.status, response.headers, response.read().decode()

        return get

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def pillar(tmp_path):
    file = tmp_path / "relay.sls"
    file.write_text("chatmail:\n  mail_domain: _chat.test\n")
    return file


def test_without_a_pillar_the_pages_are_those_of_the_defaults():
    files = web.Source(None, None).build()
    assert b"DCACCOUNT:https://chat.example.org/new" in files["index.html"]


def test_a_pillar_file_fills_in_the_pages(pillar):
    files = web.Source(pillar, None).build()
    assert b'href="dclogin:example99@_chat.test?p=only-an-example&amp;v=1&amp;ic=3"' in files["index.html"]
    assert b"<svg" in files["account-qr"]


def test_what_is_wrong_with_a_source_is_said(pillar, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/index.md").write_text("{{ settings.nothing }}")
    with pytest.raises(web.PreviewError, match=r"index\.md, line 1: .*nothing"):
        web.Source(pillar, tmp_path).build()
    (tmp_path / "src/index.md").rename(tmp_path / "first.html")
    with pytest.raises(web.PreviewError, match=r"neither index\.html nor src"):
        web.Source(pillar, tmp_path).build()
    pillar.write_text("chatmail: {mail_domain: a.test, www_folder: salt://nowhere}")
    with pytest.raises(web.PreviewError, match=r"www_folder is salt://nowhere, but there is no directory .*/nowhere"):
        web.Source(pillar, None).build()
    for text in ("chatmail: [", "mail_domain: a.test", "{{ nothing }}"):
        pillar.write_text(text)
        with pytest.raises(web.PreviewError, match=r"relay\.sls: .*Compare it with pillar\.example"):
            web.Source(pillar, None).build()


def test_a_change_of_any_source_is_seen(pillar, tmp_path):
    source = web.Source(pillar, tmp_path)
    states = [source.state()]
    (tmp_path / "new.md").write_text("new")
    states.append(source.state())
    pillar.write_text("chatmail: {}")
    states.append(source.state())
    (tmp_path / "new.md").unlink()
    states.append(source.state())
    assert all(before != after for before, after in itertools.pairwise(states))


def test_pages_have_the_script_and_the_policy_and_files_stay_as_they_are(ask):
    preview = web.Preview(
        lambda: {"index.html": b"<body>a</body>", "b/index.html": b"b", "c.html": b"c", "d.css": b"d"}
    )
    preview.rebuild()
    get = ask(preview)
    script = f'<script src="/.preview.js?{preview.version}"></script>\n'
    status, headers, body = get("/")
    assert (status, body) == (200, f"<body>a{script}</body>")
    assert headers["Content-Security-Policy"] == "default-src 'self'"
    assert get("/b")[2] == f"b{script}"
    assert get("/c")[2] == f"c{script}"
    assert (get("/d.css")[1]["Content-Type"], get("/d.css")[2]) == ("text/css", "d")
    status, _headers, body = get("/nothing")
    assert status == 404
    assert "c.html" in body
    assert script in body


def test_an_error_is_shown_until_it_is_mended(ask):
    results = [{"index.html": b"old"}, web.PreviewError("index.md, line 3: <wrong>"), {"index.html": b"new"}]

    def build():
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    preview = web.Preview(build)
    get = ask(preview)
    preview.rebuild()
    assert get("/")[2].startswith("old")
    preview.rebuild()
    status, _headers, body = get("/")
    assert status == 500
    assert "index.md, line 3: &lt;wrong&gt;" in body
    preview.rebuild()
    assert get("/")[2].startswith("new")


def test_the_browser_is_told_once_when_the_pages_are_others_than_its_own(ask):
    preview = web.Preview(dict)
    preview.rebuild()
    get = ask(preview)
    assert get("/.preview?1")[2].endswith("data: changed\n\n")
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(get(f"/.preview?{preview.version}")), daemon=True)
    waiting.start()
    time.sleep(0.2)
    assert answers == []
    preview.rebuild()
    waiting.join(10)
    [(status, headers, body)] = answers
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    assert body.count("data: changed") == 1
