"""The trial message is one that the relay's own filter takes for encrypted; what stops it is told."""

import imaplib
import json
import smtplib
import subprocess

import pytest

from _modules import chatmail_probe
from chatmaild.message import mime, openpgp


class Relay:
    """Stands in for a relay's programs and daemons: what they say, and the message that they get."""

    def __init__(self, domain: str) -> None:
        self.probes = {f"status-probe-{number}@{domain}": "x" for number in (1, 2)}
        self.refusal = ""  # of who makes addresses
        self.answers = {"rcpt": (250, b"OK"), "data": (250, b"OK")}
        self.notices = [b"+ idling\r\n", b"* 1 EXISTS\r\n"]
        self.message = None

    def run(self, argv, **_):
        said = {"make-probes": json.dumps(self.probes), "remove-probes": "[]"}.get(argv[-1], "")
        return subprocess.CompletedProcess(argv, int(bool(self.refusal)), said, self.refusal)

    def imap(self, *_, **__):
        return self

    def smtp(self, *_, **__):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def login(self, address, password):
        assert self.probes[address] == password

    def readline(self):
        if not self.notices:
            raise TimeoutError
        return self.notices.pop(0)

    def rcpt(self, recipient):
        return self.answers["rcpt"]

    def data(self, message):
        self.message = message
        return self.answers["data"]

    def select(self, *_):
        pass

    send = mail = select

    def shutdown(self):
        pass


@pytest.fixture
def configure_loader_modules():
    return {chatmail_probe: {}}


@pytest.fixture
def relay(request, monkeypatch, tmp_path):
    relay = Relay(getattr(request, "param", "chat.example.org"))
    monkeypatch.setattr(chatmail_probe, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(subprocess, "run", relay.run)
    monkeypatch.setattr(imaplib, "IMAP4_SSL", relay.imap)
    monkeypatch.setattr(smtplib, "SMTP_SSL", relay.smtp)
    return relay


@pytest.mark.parametrize("relay", ["chat.example.org", "[192.0.2.7]"], indirect=True)
def test_the_message_passes_for_encrypted(relay):
    assert chatmail_probe.message()["seconds"] < 10
    assert openpgp.is_encrypted_message(mime.parse(relay.message), outgoing=True)


def test_a_failure_is_told_in_the_daemons_words(relay):
    relay.answers["data"] = (451, b"4.7.1 later")
    assert chatmail_probe.message() == {"stage": "submission", "problem": "451 4.7.1 later"}


def test_no_answer_is_told_with_the_time_that_it_had(relay):
    del relay.notices[1:]
    assert chatmail_probe.message() == {"stage": "delivery", "problem": "no answer within 10 s"}


def test_where_no_address_can_be_made_nothing_is_sent(relay):
    relay.refusal = "accounts: error\nno space left"
    assert chatmail_probe.message() == {"stage": "addresses", "problem": "no space left"}
    assert relay.message is None
