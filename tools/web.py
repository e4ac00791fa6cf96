"""
Show the web pages while you write them: ``python -m tools.web``, or ``make web``.

The pages are built as a relay builds them, whenever a source, the pillar file or the operator's folder changes, and the
browser loads them again by itself. What is wrong with a page stands in the browser and in the terminal. Only this
server puts a script into the pages, and it sends the security policy that the relay's nginx sends, so that a page which
works here works there.
"""

import argparse
import contextlib
import html
import mimetypes
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import salt.config
import salt.utils.yaml
from salt.exceptions import CommandExecutionError, SaltException
from salt.utils.templates import render_jinja_tmpl

import chatmail_schema
from _modules import chatmail_website

CHECKOUT = Path(__file__).resolve().parents[1]
SCHEMA = CHECKOUT / "chatmail/defaults.yaml"
PAGES = CHECKOUT / "chatmail/website/files/src"
NGINX_CONF = CHECKOUT / "chatmail/nginx/files/etc/nginx/nginx.conf.j2"
DEFAULTS = {"mail_domain": "chat.example.org"}
LOOK_EVERY_S = 0.3
KEEP_ALIVE_S = 15.0

# Where the relay has an address for each visitor (chatmail_website), the preview has this one.
VISITORS_LINK = "dclogin:example99@{mail_domain}?p=only-an-example&v=1&ic=3"

RELOAD_JS = """
const { search } = new URL(document.currentScript.src);
new EventSource("/.preview" + search).onmessage = () => location.reload();
"""

ERROR_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1><p>{text}</p><p>This page loads again when you have fixed it.</p></body>
</html>
"""


class PreviewError(Exception):
    """The pages cannot be built; the text says where and why."""


def render(text: str) -> str:
    """Render Jinja as Salt does on the controller, with this checkout's files."""
    options = dict(salt.config.apply_minion_config({"root_dir": str(CHECKOUT / ".salt")}))
    options |= {"file_client": "local", "file_roots": {"base": [str(CHECKOUT / "etc/roots")]}}
    names = {"opts": options, "saltenv": "base", "salt": {}, "grains": {}, "pillar": {}}
    return render_jinja_tmpl(text, names)


def read_pillar(file: Path) -> object:
    """Return what a pillar file says below ``chatmail``. Raises PreviewError where it cannot be read."""
    try:
        return salt.utils.yaml.safe_load(render(file.read_text()))["chatmail"]
    except (OSError, SaltException, salt.utils.yaml.YAMLError, KeyError, TypeError) as error:
        raise PreviewError(f"{file}: {error!r}. Compare it with pillar.example.") from error


def settings(pillar: object) -> dict:
    """Return all settings where a pillar says this below ``chatmail``."""
    return chatmail_schema.effective(salt.utils.yaml.safe_load(SCHEMA.read_text()), pillar)


def own_folder(www_folder: str) -> Path | None:
    """Return the directory on the controller that the setting names."""
    return None if www_folder in ("", "disabled") else CHECKOUT / "etc/roots" / www_folder.removeprefix("salt://")


class Source:
    """Where the pages come from: a pillar file and an operator's directory, either of which may be None."""

    def __init__(self, pillar_file: Path | None, folder: Path | None) -> None:
        self._pillar_file = pillar_file
        self._folder = folder
        self._own = folder

    def build(self) -> Mapping[str, bytes]:
        """Build all files of the web site. Raises PreviewError."""
        values = settings(read_pillar(self._pillar_file) if self._pillar_file else DEFAULTS)
        self._own = self._folder or own_folder(values["www_folder"])
        if self._own and not self._own.is_dir():
            raise PreviewError(f"www_folder is {values['www_folder']}, but there is no directory {self._own}")
        try:
            built = chatmail_website.build(values, PAGES, self._own)
        except CommandExecutionError as error:
            raise PreviewError(str(error)) from error
        except OSError as error:
            raise PreviewError(f"{error.filename}: {error.strerror}") from error
        if "index.html" not in built:
            raise PreviewError(f"{self._own} has neither index.html nor src/index.md")
        link = VISITORS_LINK.format_map(values)
        pages = {name: content for name, content in built.items() if name.endswith(".html")}
        shown = {name: re.sub(rb"<!--# echo .*?-->", html.escape(link).encode(), page) for name, page in pages.items()}
        return {**built, **shown, "account-qr": chatmail_website.qr_code(link)}

    def state(self) -> dict[Path, tuple[int, int]]:
        """What a change of a source changes: {path: (mtime in ns, octets)}."""
        found = {}
        for path in filter(None, (PAGES, self._pillar_file, self._own)):
            for file in (path, *path.rglob("*")):
                with contextlib.suppress(FileNotFoundError):
                    status = file.stat()
                    found[file] = (status.st_mtime_ns, status.st_size)
        return found


class Preview:
    """The pages as they are now; those who wait are told when they have changed."""

    def __init__(self, build: Callable[[], Mapping[str, bytes]]) -> None:
        self._build = build
        self._changed = threading.Condition()
        self.files: Mapping[str, bytes] = {}
        self.error = ""
        self.version = 0

    def rebuild(self) -> None:
        """Build again. Where that fails ``error`` says why, and ``files`` are those of before."""
        try:
            files, error = self._build(), ""
        except PreviewError as failure:
            files, error = self.files, str(failure)
        with self._changed:
            # Greater than any of an earlier preview, whose pages may still be open.
            self.files, self.error, self.version = files, error, time.time_ns()
            self._changed.notify_all()

    def wait(self, version: int, seconds: float) -> bool:
        """Wait until the pages are others than those of ``version``; False where they are not within ``seconds``."""
        with self._changed:
            return self._changed.wait_for(lambda: self.version != version, seconds)


class Handler(BaseHTTPRequestHandler):
    """Serves the pages as the relay's nginx does, with a script in them that waits for a change."""

    preview: Preview
    policy: str

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/.preview":
            self._tell_of_change(int(url.query) if url.query.isdecimal() else 0)
        elif url.path == "/.preview.js":
            self._answer(HTTPStatus.OK, "text/javascript", RELOAD_JS.encode())
        else:
            self._page(url.path.removeprefix("/"))

    def _page(self, path: str) -> None:
        page = path.removesuffix("/")
        languages = re.findall(r"(?:^|,) *([a-z]+)", self.headers.get("Accept-Language", "").lower())
        names = [path]
        for folder in (*(f"{language}/" for language in languages), ""):
            names += [f"{folder}{page}/index.html" if page else f"{folder}index.html", f"{folder}{page}.html"]
        name = next((name for name in names if name in self.preview.files), "")
        content_type = mimetypes.guess_type(name)[0] or "text/html"
        if path == "account-qr":
            content_type = "image/svg+xml"
        if content_type == "text/html" and self.preview.error:
            text = ERROR_PAGE.format(title="The pages cannot be built", text=html.escape(self.preview.error))
            self._html(HTTPStatus.INTERNAL_SERVER_ERROR, text.encode())
        elif not name:
            text = f"There is no /{path}; a relay answers 404 here. There are: {', '.join(sorted(self.preview.files))}"
            self._html(HTTPStatus.NOT_FOUND, ERROR_PAGE.format(title="Not there", text=html.escape(text)).encode())
        elif content_type == "text/html":
            self._html(HTTPStatus.OK, self.preview.files[name])
        else:
            self._answer(HTTPStatus.OK, content_type, self.preview.files[name])

    def _html(self, status: HTTPStatus, content: bytes) -> None:
        script = f'<script src="/.preview.js?{self.preview.version}"></script>\n'.encode()
        before, end, after = content.rpartition(b"</body>")
        self._answer(status, "text/html; charset=utf-8", before + script + end + after if end else content + script)

    def _answer(self, status: HTTPStatus, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.policy)
        self.end_headers()
        self.wfile.write(content)

    def _tell_of_change(self, version: int) -> None:
        """Server-sent events: one when the pages are others than the browser's, comments until then."""
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            self.wfile.write(b"retry: 500\n\n")
            while not self.preview.wait(version, KEEP_ALIVE_S):
                self.wfile.write(b":\n\n")
            self.wfile.write(b"data: changed\n\n")
        except ConnectionError:
            pass  # the browser went to another page

    def log_message(self, *_arguments: object) -> None:
        """Requests are not worth a line."""


def follow(source: Source, preview: Preview) -> None:
    """Build again on each change, and say so, for ever."""
    before = None
    while True:
        now = source.state()
        if now != before:
            preview.rebuild()
            names = sorted({path.name for path in now if before and now[path] != before.get(path) and path.is_file()})
            print(preview.error or f"built {' '.join(names)}".strip(), flush=True)
        before = now
        time.sleep(LOOK_EVERY_S)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.web", description="Show the web pages while you write them.")
    parser.add_argument(
        "pillar", nargs="?", type=Path, help="pillar file of a relay; default: that of chat.example.org"
    )
    parser.add_argument("--folder", type=Path, help="directory with your own pages; default: the pillar's www_folder")
    parser.add_argument("--port", type=int, default=8000, help="on 127.0.0.1; default: %(default)s")
    arguments = parser.parse_args(words)
    if arguments.folder and not arguments.folder.is_dir():
        parser.error(f"{arguments.folder} is no directory")
    source = Source(arguments.pillar, arguments.folder)
    Handler.preview = Preview(source.build)
    Handler.policy = re.search(r'Content-Security-Policy "([^"]*)"', NGINX_CONF.read_text())[1]
    try:
        server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
    except OSError as error:
        print(f"cannot listen on 127.0.0.1:{arguments.port}: {error.strerror}; --port chooses another", file=sys.stderr)
        return 1
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends it)", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        follow(source, Handler.preview)
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
