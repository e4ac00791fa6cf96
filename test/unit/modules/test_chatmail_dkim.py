"""The DKIM key is made once; its record verifies what it signs, says an independent verifier."""

import dkim
import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_dkim

MESSAGE = b"From: a@chat.test\r\nTo: b@chat.test\r\nSubject: x\r\n\r\nbody\r\n"


@pytest.fixture
def configure_loader_modules():
    return {chatmail_dkim: {"__pillar__": {"chatmail": {"mail_domain": "chat.test"}}}}


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


def test_the_record_verifies_a_signature_of_the_key(key):
    record = chatmail_dkim.record(str(key))
    assert (record["name"], record["type"]) == ("opendkim._domainkey.chat.test.", "TXT")
    header = dkim.sign(MESSAGE, b"opendkim", b"chat.test", key.read_bytes(), canonicalize=(b"relaxed", b"simple"))
    published = record["value"].encode()
    assert dkim.verify(header + MESSAGE, dnsfunc=lambda name, timeout=5: published)
    assert not dkim.verify(header + MESSAGE + b"x\r\n", dnsfunc=lambda name, timeout=5: published)


def test_a_missing_key_says_what_makes_it(tmp_path):
    with pytest.raises(CommandExecutionError, match=r"apply of chatmail\.opendkim"):
        chatmail_dkim.record(str(tmp_path / "none"))


def test_garbage_and_missing_domain_are_errors(tmp_path, key):
    garbage = tmp_path / "garbage"
    garbage.write_text("nonsense")
    assert "no PEM private key" in chatmail_dkim.problem(str(garbage))
    chatmail_dkim.__pillar__.clear()
    with pytest.raises(CommandExecutionError, match="mail_domain"):
        chatmail_dkim.record(str(key))
