"""
One real message through the relay, from a throw-away address to another: login, submission, filter, signature,
delivery, notice. Two addresses are kept free for it, which nobody else can create; they are there for no longer than it
takes.
"""

import base64
import contextlib
import fcntl
import imaplib
import json
import os
import smtplib
import ssl
import subprocess
import time
from email.utils import formatdate, make_msgid
from pathlib import Path

from chatmail_errors import CommandExecutionError
from chatmail_services import ask

LOCK = Path("/run/chatmail-probe.lock")
# For each answer of a daemon, and for the message to arrive.
PATIENCE_S = 10
# RFC 9580: a session key packet (section 5.1.1), then one encrypted packet (section 5.13).
SESSION_KEY, ENCRYPTED = 1, 18


def __virtual__():
    return "chatmail_probe"


def _accounts(command):
    """Have the relay's own program make or remove the addresses; it runs as vmail."""
    return ask("accounts", command, user="vmail", group="vmail")


def _packet(tag, body):
    """An OpenPGP packet with a length of five octets (RFC 9580 section 4.2.1.3)."""
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4, "big") + body


def _message(sender, recipient):
    """A message in the form of an encrypted one (RFC 3156 section 4), of random octets: nobody can read it."""
    octets = _packet(SESSION_KEY, b"\x03" + os.urandom(90)) + _packet(ENCRYPTED, b"\x01" + os.urandom(400))
    armor = base64.encodebytes(octets).decode().replace("\n", "\r\n")
    domain = sender.partition("@")[2]
    return (
        f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: ...\r\nDate: {formatdate()}\r\n"
        f"Message-ID: {make_msgid(domain=domain.strip('[]'))}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="probe"\r\n\r\n'
        "--probe\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n"
        "--probe\r\nContent-Type: application/octet-stream\r\n\r\n"
        f"-----BEGIN PGP MESSAGE-----\r\n\r\n{armor}-----END PGP MESSAGE-----\r\n\r\n--probe--\r\n"
    ).encode()


def _unchecked_tls():
    """The certificate is looked at elsewhere, and may be one that nobody has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _idle(address, password):
    """Log in by IMAP and wait for news of INBOX (RFC 2177)."""
    imap = imaplib.IMAP4_SSL("127.0.0.1", 993, ssl_context=_unchecked_tls(), timeout=PATIENCE_S)
    imap.login(address, password)
    imap.select("INBOX")
    imap.send(b"probe IDLE\r\n")
    while not (line := imap.readline()).startswith(b"+"):
        if not line or line.startswith(b"probe"):
            raise imaplib.IMAP4.error(f"IDLE: {line.decode(errors='replace').strip() or 'no answer'}")
    return imap


def _submit(address, password, recipient):
    """Submit a message; returns the moment at which that began."""
    with smtplib.SMTP_SSL("127.0.0.1", 465, "localhost", timeout=PATIENCE_S, context=_unchecked_tls()) as smtp:
        smtp.login(address, password)
        begun = time.monotonic()
        smtp.mail(address)
        code, text = smtp.rcpt(recipient)
        if code == 250:
            code, text = smtp.data(_message(address, recipient))
        if code != 250:
            raise smtplib.SMTPResponseException(code, text)
    return begun


def _wait(imap):
    """Wait for the notice of the message, no longer than for any other answer."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        line = imap.readline()
        if not line:
            raise imaplib.IMAP4.error("Dovecot closed the connection")
        if line.rstrip().endswith(b"EXISTS"):
            return
    raise TimeoutError


def _said(error):
    """The words of a failure, without the commands that were sent."""
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {error.smtp_error.decode(errors='replace')}"
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE_S} s"
    return str(error)


def _was_signed(since):
    """Whether OpenDKIM says that it has signed a message since ``since`` (Unix seconds)."""
    argv = ["journalctl", "--unit=opendkim", f"--since=@{int(since)}", "--output=cat", "--no-pager"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout
    return "DKIM-Signature field added" in said


def _drop(sender):
    """Take what ``sender`` has sent out of the queue: its recipient is going."""
    waiting = subprocess.run(["postqueue", "-j"], capture_output=True, text=True, timeout=60, check=False).stdout
    for line in waiting.splitlines():
        if (queued := json.loads(line))["sender"] == sender:
            subprocess.run(["postsuper", "-d", queued["queue_id"]], capture_output=True, timeout=30, check=False)


def message():
    """
    Send the message and wait for its notice.

    Returns a mapping: ``seconds`` from the first command of the submission to the notice at an idle client, and
    ``signed``, whether OpenDKIM signed; or, where it does not get through, ``stage``, at which it failed
    (``addresses``, ``imap``, ``submission``, ``delivery``), and ``problem``, the words of the daemon that failed. It
    takes 40 s at most; another probe at the same time waits.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_probe.message
    """
    started = time.time()
    with LOCK.open("w") as lock, contextlib.ExitStack() as stack:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stage = "addresses"
        try:
            # Whatever a probe left that was killed goes first.
            (sender, sender_password), (recipient, recipient_password) = _accounts("make-probes").items()
            stack.callback(_accounts, "remove-probes")
            stage = "imap"
            imap = _idle(recipient, recipient_password)
            stack.callback(imap.shutdown)
            stage = "submission"
            begun = _submit(sender, sender_password, recipient)
            stage = "delivery"
            stack.callback(_drop, sender)
            _wait(imap)
            seconds = round(time.monotonic() - begun, 3)
        except (CommandExecutionError, OSError, imaplib.IMAP4.error, smtplib.SMTPException) as error:
            return {"stage": stage, "problem": _said(error)}
        return {"seconds": seconds, "signed": _was_signed(started)}
