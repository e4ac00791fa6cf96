"""``chatmail_binary.installed`` fetches a program once, and says what to do where it cannot."""

import hashlib

import pytest

from _modules import chatmail_binary as module
from _states import chatmail_binary

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")

PROGRAM = b"program"
SHA256 = hashlib.sha256(PROGRAM).hexdigest()


@pytest.fixture
def configure_loader_modules(testmode):
    return {
        module: {},
        chatmail_binary: {
            "__opts__": {"test": testmode},
            "__salt__": {"chatmail_binary.sha256": module.sha256, "chatmail_binary.install": module.install},
        },
    }


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(PROGRAM)
    return path


@pytest.mark.parametrize("old", [None, b"old"])
def test_another_program_is_replaced(testmode, tmp_path, source, old):
    target = tmp_path / "relay"
    if old:
        target.write_bytes(old)
    ret = chatmail_binary.installed(str(target), str(source), SHA256, "Do without.")
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"] == {
        str(target): {"old": hashlib.sha256(old).hexdigest() if old else "missing", "new": SHA256}
    }
    assert (target.read_bytes() if target.exists() else None) == (old if testmode else PROGRAM)


def test_the_wanted_program_is_not_fetched_again(tmp_path):
    target = tmp_path / "relay"
    target.write_bytes(PROGRAM)
    ret = chatmail_binary.installed(str(target), "/nonexistent/source", SHA256, "Do without.")
    assert (ret["result"], ret["changes"]) == (True, {})


def test_a_failure_names_what_to_do_and_what_is_there_now(testmode, tmp_path):
    target = tmp_path / "relay"
    ret = chatmail_binary.installed(str(target), "/nonexistent/source", SHA256, "Do without.")
    assert ret["result"] is (None if testmode else False)
    if not testmode:
        assert ret["changes"] == {}
        assert "is still missing. Do without." in ret["comment"]


def test_a_machine_without_a_program_is_told(tmp_path):
    ret = chatmail_binary.installed(str(tmp_path / "relay"), "", "", "Do without.")
    assert (ret["result"], ret["changes"]) == (False, {})
    assert "kind of machine. Do without." in ret["comment"]
