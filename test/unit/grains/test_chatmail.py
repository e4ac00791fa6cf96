"""The grain says what a host is, whatever its files hold."""

import json
import os

import pytest

from _grains.chatmail import chatmail

RELAY = {"settings": {"mail_domain": "chat.test", "public_addresses": ["192.0.2.7"]}, "version": "0.1.0"}


@pytest.fixture
def host(tmp_path):
    (tmp_path / "etc/chatmail").mkdir(parents=True)
    (tmp_path / "etc/dkimkeys").mkdir()
    return tmp_path


def grain(host) -> dict:
    return chatmail(host)["chatmail"]


def test_a_bare_host_is_nothing(tmp_path):
    found = grain(tmp_path)
    assert (found["role"], found["container"]) == ("none", "")
    assert {found[key] for key in ("mail_domain", "version", "applied", "moved_to", "dkim_selector")} == {None}


def test_a_relay_tells_domain_version_and_when(host):
    path = host / "etc/chatmail/relay.json"
    path.write_text(json.dumps(RELAY))
    os.utime(path, (0, 86400))
    (host / "etc/dkimkeys/KeyTable").write_text("chat.test chat.test:opendkim2:/etc/dkimkeys/opendkim2.private\n")
    assert grain(host) == {
        "role": "relay",
        "mail_domain": "chat.test",
        "version": "0.1.0",
        "applied": "1970-01-02T00:00:00Z",
        "moved_to": None,
        "dkim_selector": "opendkim2",
        "public_addresses": ["192.0.2.7"],
        "container": "",
    }


def test_a_relay_that_has_moved_says_where_and_may_be_its_proxy(host):
    (host / "etc/chatmail/relay.json").write_text(json.dumps(RELAY))
    (host / "etc/chatmail/moved").write_text("new.test\n")
    assert (grain(host)["role"], grain(host)["moved_to"]) == ("moved", "new.test")
    (host / "etc/chatmail/proxy.confirmed.nft").touch()
    assert grain(host)["role"] == "proxy"


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"settings": 1}', "\x00"])
def test_a_broken_file_makes_no_failure(host, content):
    for name in ("chatmail/relay.json", "dkimkeys/KeyTable"):
        (host / "etc" / name).write_text(content)
    assert grain(host)["role"] == "none"
