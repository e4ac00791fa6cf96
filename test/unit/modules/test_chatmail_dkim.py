"""The DKIM key is made once; its record verifies what it signs, says an independent verifier."""

import dkim
import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_dkim

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
