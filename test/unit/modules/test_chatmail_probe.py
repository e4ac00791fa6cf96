"""The trial message is one that the relay's own filter takes for encrypted."""

import smtplib

import pytest

from _modules import chatmail_probe
from chatmaild.message import mime, openpgp


@pytest.fixture
def configure_loader_modules():
    return {chatmail_probe: {}}


@pytest.mark.parametrize("domain", ["chat.example.org", "[192.0.2.7]"])
def test_the_message_passes_for_encrypted(domain):
    message = chatmail_probe._message(f"status-probe-1@{domain}", f"status-probe-2@{domain}")
    assert openpgp.is_encrypted_message(mime.parse(message), outgoing=True)


def test_a_failure_is_told_in_the_daemons_words():
    assert chatmail_probe._said(smtplib.SMTPResponseException(451, b"4.7.1 later")) == "451 4.7.1 later"
    assert chatmail_probe._said(TimeoutError()) == "no answer within 10 s"


def test_where_no_address_can_be_made_nothing_is_sent(monkeypatch, tmp_path):
    monkeypatch.setattr(chatmail_probe, "LOCK", tmp_path / "lock")

    def refuse(command):
        raise chatmail_probe.CommandExecutionError(f"{command}: no space left")

    monkeypatch.setattr(chatmail_probe, "_accounts", refuse)
    assert chatmail_probe.message() == {"stage": "addresses", "problem": "make-probes: no space left"}
