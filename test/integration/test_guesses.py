"""Guesses are refused for now, whoever makes them; the owner of the address goes on; no log has a password."""

import imaplib
import re
import smtplib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatmaild.guesses import NETWORK_BURST
from test.integration.mailing import imap_login, smtp_login
from test.mail_clients import ImapClient, ImapError, unchecked_tls
from test.relay.delivery import User

GUESSES = 40


def imap_answer(user: User, password: str, place: str) -> str:
    """The response code of a login from ``place``, OK where it succeeds."""
    client = ImapFrom(user.relay.address, place)
    try:
        client.login(user.address, password)
    except imaplib.IMAP4.error as error:
        return re.search(r"\[([A-Z]+)", str(error))[1]
    finally:
        client.shutdown()
    return "OK"


class ImapFrom(imaplib.IMAP4_SSL):
    def __init__(self, host: str, place: str) -> None:
        self._place = place
        super().__init__(host, timeout=30, ssl_context=unchecked_tls())

    def _create_socket(self, timeout):
        raw = socket.create_connection((self.host, self.port), timeout, source_address=(self._place, 0))
        return self.ssl_context.wrap_socket(raw)


def smtp_answer(user: User, password: str, place: str) -> int:
    """The code of the answer to a login from ``place``."""
    with smtplib.SMTP_SSL(
        user.relay.address, 465, timeout=30, source_address=(place, 0), context=unchecked_tls()
    ) as client:
        try:
            return client.login(user.address, password)[0]
        except smtplib.SMTPAuthenticationError as error:
            return error.smtp_code


@pytest.mark.parametrize(
    ("answer", "words"),
    [(imap_answer, ("OK", "AUTHENTICATIONFAILED", "UNAVAILABLE"))],
)
def test_strangers_have_few_guesses_and_the_owner_goes_on(alice, bob, places, answer, words):
    right, wrong, later = words
    # Where the tests' clients usually are is known for alice from now on.
    assert imap_login(alice)
    with ThreadPoolExecutor(GUESSES) as pool:
        answers = list(pool.map(lambda number: answer(alice, f"guess-{number}", places[0]), range(GUESSES)))
    assert set(answers) == {wrong, later}
    assert answers.count(wrong) == NETWORK_BURST
    assert answer(alice, alice.password, places[0]) == later
    assert imap_login(alice)
    assert smtp_login(alice)
    assert answer(bob, bob.password, places[0]) == right


def test_no_password_is_in_the_journal_when_nobody_can_say_whether_it_is_right(alice, one_host):
    one_host.run(["systemctl", "stop", "doveauth"])
    try:
        with ImapClient(alice.relay.address) as client, pytest.raises(ImapError, match="UNAVAILABLE"):
            client.login(alice.address, "asked-while-nobody-answers")
    finally:
        one_host.run(["systemctl", "start", "doveauth"])
    assert "asked-while" not in one_host.run(["journalctl", "-b", "-o", "cat"]).stdout
