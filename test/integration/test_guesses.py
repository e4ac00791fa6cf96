"""Guesses are refused for now, whoever makes them; the owner of the address goes on; no log has a password."""

import imaplib
import re
import smtplib
import socket
from concurrent.futures import ALL_COMPLETED, ThreadPoolExecutor, wait

import pytest

from chatmaild.limits.guesses import NETWORK_BURST
from test.relay.delivery import User
from test.support.mail_clients import unchecked_tls
from test.support.mailing import imap_login, smtp_login

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
    [(imap_answer, ("OK", "AUTHENTICATIONFAILED", "UNAVAILABLE")), (smtp_answer, (235, 535, 454))],
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


@pytest.mark.parametrize(
    ("trouble", "end"),
    [
        (["stop", "doveauth.socket", "doveauth"], ["start", "doveauth.socket", "doveauth"]),
        (["kill", "--signal=STOP", "doveauth"], ["kill", "--signal=CONT", "doveauth"]),
    ],
    ids=["dead", "hung"],
)
def test_a_doveauth_that_does_not_answer_is_no_wrong_password(alice, one_host, places, trouble, end):
    one_host.run(["systemctl", *trouble])
    try:
        with ThreadPoolExecutor() as pool:
            imap = pool.submit(imap_answer, alice, "asked-while-nobody-answers", places[0])
            assert smtp_answer(alice, alice.password, places[0]) == 454
            assert imap.result() == "UNAVAILABLE"
    finally:
        one_host.run(["systemctl", *end])
    assert "asked-while" not in one_host.run(["journalctl", "-b", "-o", "cat"]).stdout
    assert smtp_login(alice)


def test_logins_go_on_while_doveauth_is_killed_again_and_again(alice, one_host, places):
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(smtp_answer, alice, alice.password, places[1]) for _ in range(30)]
        while not all(answer.done() for answer in answers):
            one_host.run(["systemctl", "kill", "--signal=KILL", "doveauth"])
            wait(answers, timeout=1, return_when=ALL_COMPLETED)
    assert {answer.result() for answer in answers} <= {235, 454}
    one_host.run(["systemctl", "restart", "doveauth"])
    assert smtp_login(alice)
