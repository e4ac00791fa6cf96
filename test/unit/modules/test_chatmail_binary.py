"""A program goes into place if its hash is the wanted one, from a file, a URL or an archive; else the old one stays."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_binary

PROGRAM = b"\x7fELF of a relay\n"
SHA256 = hashlib.sha256(PROGRAM).hexdigest()


@pytest.fixture
def configure_loader_modules():
    return {chatmail_binary: {}}


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "bin" / "relay"
    path.parent.mkdir()
    return path


def archive(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_archive(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, mode="w", compression=zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        PROGRAM,
        archive(("./README", b"x"), ("./relay", PROGRAM)),
        archive(("relay", PROGRAM)),
        zip_archive(("relay-1.0/README", b"x"), ("relay-1.0/relay", PROGRAM)),
    ],
    ids=["program", "archive", "archive of one", "zip archive"],
)
def test_a_program_comes_from_a_file_or_an_archive(tmp_path, target, content):
    source = tmp_path / "source"
    source.write_bytes(content)
    chatmail_binary.install(str(target), str(source), SHA256)
    assert target.read_bytes() == PROGRAM
    assert target.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in target.parent.iterdir()] == ["relay"]


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"another",
        archive(("relay", b"another")),
        archive(("other", PROGRAM)),
        archive(("relay", PROGRAM))[:40],
        zip_archive(("relay", b"another")),
        zip_archive(("other", PROGRAM)),
        zip_archive(("relay", PROGRAM)).replace(b"relay", b"relax", 1),
    ],
    ids=[
        "empty",
        "another",
        "another in an archive",
        "archive without it",
        "half an archive",
        "another in a zip archive",
        "zip archive without it",
        "broken zip archive",
    ],
)
def test_what_is_not_the_wanted_program_replaces_nothing(tmp_path, target, content, old):
    source = tmp_path / "source"
    source.write_bytes(content)
    if old:
        target.write_bytes(old)
    with pytest.raises(CommandExecutionError, match=str(source)):
        chatmail_binary.install(str(target), str(source), SHA256)
    assert (target.read_bytes() if target.exists() else None) == old
    assert len(list(target.parent.iterdir())) == (1 if old else 0)


def test_a_wrong_hash_is_told_beside_the_wanted_one(tmp_path, target):
    source = tmp_path / "source"
    source.write_bytes(b"another")
    with pytest.raises(CommandExecutionError, match=SHA256) as failure:
        chatmail_binary.install(str(target), str(source), SHA256)
    assert hashlib.sha256(b"another").hexdigest() in str(failure.value)


def test_what_has_no_end_is_given_up(tmp_path, target, monkeypatch):
    monkeypatch.setattr(chatmail_binary, "SIZE_MAX", 1000)
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1001)
    with pytest.raises(CommandExecutionError, match="more than"):
        chatmail_binary.install(str(target), str(source), SHA256)


@pytest.fixture
def web(tmp_path):
    """A web server on loopback for the files in tmp_path; its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_program_comes_from_a_url(tmp_path, target, web):
    (tmp_path / "relay.tar.gz").write_bytes(archive(("./relay", PROGRAM)))
    chatmail_binary.install(str(target), f"{web}/relay.tar.gz", SHA256)
    assert target.read_bytes() == PROGRAM


@pytest.mark.parametrize("source", ["{web}/none", "http://127.0.0.1:1/relay", "/nonexistent/relay"])
def test_a_source_that_is_not_there_is_named(target, web, source):
    source = source.format(web=web)
    with pytest.raises(CommandExecutionError, match=source):
        chatmail_binary.install(str(target), source, SHA256)
    assert list(target.parent.iterdir()) == []
