"""The DKIM key is made once; its record verifies what it signs, says an independent verifier."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import dkim
import pytest
from salt.exceptions import CommandExecutionError

import chatmail_dkim_keys
import chatmail_milter
from _modules import chatmail_dkim
from chatmail_milter import MilterError

MESSAGE = b"From: a@chat.test\r\nTo: b@chat.test\r\nSubject: x\r\n\r\nbody\r\n"


@pytest.fixture
def configure_loader_modules():
    return {chatmail_dkim: {}}


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "opendkim.private"
    chatmail_dkim.make_key(str(path))
    return path


def test_a_made_key_can_sign(key):
    assert chatmail_dkim.problem(str(key)) == ""
    assert key.stat().st_mode & 0o777 == 0o600


def test_nothing_is_left_beside_the_key(key):
    assert [path.name for path in key.parent.iterdir()] == [key.name]


def test_an_existing_key_is_never_replaced(key):
    before = key.read_bytes()
    with pytest.raises(CommandExecutionError, match="not replaced"):
        chatmail_dkim.make_key(str(key))
    assert key.read_bytes() == before
    assert [path.name for path in key.parent.iterdir()] == [key.name]


@pytest.fixture
def key_table(key):
    table = key.parent / "KeyTable"
    table.write_text(f"opendkim._domainkey.chat.test chat.test:opendkim:{key}\n")
    return table


def test_the_record_verifies_a_signature_of_the_key(key, key_table):
    record = chatmail_dkim.record(str(key_table))
    assert (record["name"], record["type"]) == ("opendkim._domainkey.chat.test.", "TXT")
    header = dkim.sign(MESSAGE, b"opendkim", b"chat.test", key.read_bytes(), canonicalize=(b"relaxed", b"simple"))
    published = record["value"].encode()
    assert dkim.verify(header + MESSAGE, dnsfunc=lambda name, timeout=5: published)
    assert not dkim.verify(header + MESSAGE + b"x\r\n", dnsfunc=lambda name, timeout=5: published)


def test_a_relay_without_keys_says_what_makes_them(tmp_path, key, key_table):
    with pytest.raises(CommandExecutionError, match=r"Apply chatmail\.opendkim"):
        chatmail_dkim.record(str(tmp_path / "none"))
    key_table.write_text("nonsense")
    with pytest.raises(CommandExecutionError, match="names no key"):
        chatmail_dkim.record(str(key_table))


def test_a_table_with_a_missing_key_names_it(key, key_table):
    key.unlink()
    with pytest.raises(CommandExecutionError, match=f"cannot read {key}"):
        chatmail_dkim.record(str(key_table))


def test_garbage_is_no_key(tmp_path):
    garbage = tmp_path / "garbage"
    garbage.write_text("nonsense")
    assert "no PEM private key" in chatmail_dkim.problem(str(garbage))


@pytest.fixture
def opendkim(monkeypatch, key_table):
    """A daemon that signs with the key in the table, unless ``fault`` is an error."""

    def added_fields(path, user, sender, recipient, message):
        assert (path, user) == (chatmail_dkim.SOCKET, "postfix")
        if daemon.fault:
            raise daemon.fault
        domain, selector, key = key_table.read_text().split()[1].split(":", 2)
        field = dkim.sign(message.encode(), selector.encode(), domain.encode(), Path(key).read_bytes())
        return [("DKIM-Signature", field.decode().partition(": ")[2].rstrip())] if daemon.signs else []

    daemon = SimpleNamespace(fault=None, signs=True)
    monkeypatch.setattr(chatmail_milter, "added_fields", added_fields)
    return daemon


def test_a_sample_is_verified_by_the_record_alone(key, key_table, opendkim):
    message = chatmail_dkim.sample(str(key.parent)).encode()
    published = chatmail_dkim.record(str(key_table))["value"].encode()
    assert dkim.verify(message, dnsfunc=lambda name, timeout=5: published)
    other = key.parent / "other.private"
    chatmail_dkim.make_key(str(other))
    key_table.write_text(f"chat.test chat.test:opendkim:{other}\n")
    published = chatmail_dkim.record(str(key_table))["value"].encode()
    assert not dkim.verify(message, dnsfunc=lambda name, timeout=5: published)


def test_a_key_is_made_before_opendkims_package_has_made_its_directory(tmp_path):
    made = tmp_path / "dkimkeys/opendkim.private"
    chatmail_dkim.make_key(str(made))
    assert chatmail_dkim.problem(str(made)) == ""
    assert made.parent.stat().st_mode & 0o777 == 0o700


def test_before_opendkim_has_a_table_the_record_of_the_first_key_is_known_for_a_given_domain(key, key_table):
    (with_table,) = chatmail_dkim.records(str(key.parent))
    key_table.unlink()
    assert chatmail_dkim.records(str(key.parent), domain="chat.test") == [with_table]
    with pytest.raises(CommandExecutionError):
        chatmail_dkim.records(str(key.parent))


def test_during_a_rename_the_record_is_that_of_the_new_domain(key, key_table):
    (renamed,) = chatmail_dkim.records(str(key.parent), domain="new.test")
    assert renamed["name"] == "opendkim._domainkey.new.test."


def test_a_daemon_that_does_not_sign_is_told(key, opendkim):
    opendkim.fault = MilterError("the milter fails for now")
    with pytest.raises(CommandExecutionError, match=rf"does not sign with {key}: the milter fails for now\. See"):
        chatmail_dkim.sample(str(key.parent))
    opendkim.fault, opendkim.signs = None, False
    with pytest.raises(CommandExecutionError, match="its tables do not name it"):
        chatmail_dkim.sample(str(key.parent))


class Relay:
    """A relay's functions, and the DNS as ``chatmail_dns`` shows it: ``served`` has values by name."""

    def __init__(self, directory, publishes):
        self.directory = str(directory)
        self.publishes = publishes
        self.served = {}
        self.restarts = True
        self.functions = {
            f"chatmail_dkim.{function.__name__}": lambda function=function: function(self.directory)
            for function in (chatmail_dkim.records, chatmail_dkim.next_key, chatmail_dkim.switch, chatmail_dkim.retire)
        } | {
            "chatmail_dkim.record": lambda: chatmail_dkim.record(f"{self.directory}/KeyTable"),
            "chatmail_dkim.sample": lambda: chatmail_dkim.sample(self.directory),
            "chatmail_dns.facts": lambda: {"dkim": chatmail_dkim.records(self.directory)},
            "chatmail_dns.publish": self.publish,
            "chatmail_dns.check": self.check,
            "service.restart": lambda name: self.restarts,
        }

    def enter(self):
        self.served = {one["name"]: one["value"] for one in chatmail_dkim.records(self.directory) if one["value"]}

    def publish(self, known, seconds):
        if self.publishes:
            self.enter()

    def check(self, known):
        lines = {}
        for one in (known or self.functions["chatmail_dns.facts"]())["dkim"]:
            status = "ok" if self.served.get(one["name"], "") == one["value"] else "missing"
            values = [self.served.get(one["name"])]
            lines[f"{one['name']} TXT"] = {"status": status, "values": values, "do": "Enter it.", "enter": one["name"]}
        return {"required": lines, "recommended": {}}


@pytest.fixture(params=[True, False], ids=["publishes", "by-hand"])
def relay(request, key, key_table, opendkim, monkeypatch):
    relay = Relay(key.parent, request.param)
    relay.enter()
    monkeypatch.setattr(chatmail_dkim, "__salt__", relay.functions, raising=False)
    return relay


def rotated(relay):
    """Rotate; where the records are entered by hand, see that it waits for that, and go on."""
    answer = chatmail_dkim.rotate()
    if not relay.publishes:
        assert not answer["success"]
        assert "rotate again" in answer["result"]
        relay.enter()
        answer = chatmail_dkim.rotate()
    assert answer["success"], answer
    return answer["result"]


def test_a_rotation_publishes_before_it_signs_and_keeps_the_last_key_for_a_week(relay, key, key_table):
    assert "opendkim2._domainkey.chat.test. signs." in rotated(relay)
    assert chatmail_dkim.selector(relay.directory) == "opendkim2"
    assert set(relay.served) == {"opendkim._domainkey.chat.test.", "opendkim2._domainkey.chat.test."}
    assert chatmail_dkim.check() == {
        "success": True,
        "result": "opendkim2._domainkey.chat.test. is published, and verifies what the relay signs.",
    }

    until = time.strftime("%Y-%m-%d", time.gmtime(key_table.stat().st_mtime + chatmail_dkim_keys.GRACE_S))
    assert f"stays for mail on its way; rotate again after {until}" in chatmail_dkim.rotate()["result"]
    assert key.exists()

    week_ago = key_table.stat().st_mtime - chatmail_dkim_keys.GRACE_S
    os.utime(key_table, (week_ago, week_ago))
    assert "are gone" in rotated(relay)
    assert not key.exists()
    assert set(relay.served) == {"opendkim2._domainkey.chat.test."}

    assert "opendkim3._domainkey.chat.test. signs." in rotated(relay)


def test_nothing_signs_with_a_key_that_is_not_published(relay, key_table):
    relay.publishes = False
    before = key_table.read_text()
    answer = chatmail_dkim.rotate()
    assert not answer["success"]
    assert "opendkim2._domainkey.chat.test. is missing.\nEnter it." in answer["result"]
    assert key_table.read_text() == before
    # The same key the next time.
    assert chatmail_dkim.rotate() == answer


def test_a_daemon_that_does_not_start_signs_with_the_last_key(relay, key_table):
    relay.restarts = False
    before = key_table.read_text()
    relay.functions["chatmail_dkim.next_key"]()
    with pytest.raises(CommandExecutionError, match="does not start"):
        chatmail_dkim.switch(relay.directory)
    assert key_table.read_text() == before


def test_a_foreign_key_is_found_by_check(relay):
    relay.served = {}
    answer = chatmail_dkim.check()
    assert not answer["success"]
    assert answer["result"] == (
        "opendkim._domainkey.chat.test. is missing.\nEnter it.\n\nopendkim._domainkey.chat.test."
    )
