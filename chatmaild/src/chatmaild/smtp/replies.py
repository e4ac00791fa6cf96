"""All replies that our services give to Postfix and, by HTTP, to other relays (RFC 5321 section 4.2).

The code's first digit tells the client what to do: 4 is to keep the message and try again, 5 is to return it to its
sender. A second number, the enhanced status (RFC 3463), says of what kind the obstacle is. Texts without one are those
of chatmail relays, which apps and other relays look for.

Replies of Postfix behind the filter are passed on as they are (`smtp.client`), with `forwarded`.
"""

import re

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")

# The dialogue.
OK = "250 OK"
CLOSING = "221 OK"
START_DATA = "354 End data with <CR><LF>.<CR><LF>"
SHUTTING_DOWN = "421 4.3.2 Service shutting down"
NOT_RECOGNIZED = "500 Command not recognized"
XFORWARD_SYNTAX = "501 5.5.4 XFORWARD takes ADDR= and an IP address"
XFORWARD_TOO_LATE = "503 5.5.1 XFORWARD comes before MAIL FROM"
SENDER_ALREADY_GIVEN = "503 5.5.1 Sender already given; RSET starts over"
SENDER_NEEDED = "503 5.5.1 MAIL FROM is needed before RCPT TO"
RECIPIENT_NEEDED = "503 5.5.1 MAIL FROM and RCPT TO are needed before DATA"
RECIPIENT_FIELD_NEEDED = "503 5.5.1 X-MAIL-TO is needed"
TOO_MANY_RECIPIENTS = "452 4.5.3 Too many recipients"

# Faults and limits that are ours.
LOCAL_ERROR = "451 Local error"
IO_ERROR = "451 I/O error"
CANNOT_CONNECT = "450 4.4.1 Cannot connect to the mail server behind the filter"
NO_ROOM = "452 4.3.1 Too many large messages at a time; try again later"
TOO_MANY_CONNECTIONS = "421 4.7.0 Too many connections from your network at a time; try again later"

# The message.
TOO_LARGE = "552 Message exceeds maximum size"
INVALID_DATA = "500 Invalid DATA"
ENCRYPTION_NEEDED = "523 Encryption Needed: Invalid Unencrypted Mail"


def invalid_sender(where: str) -> str:
    """What was given as `where`, such as MAIL FROM, is no reverse-path."""
    return f"500 Invalid address in {where}"


def invalid_recipient(where: str) -> str:
    """What was given as `where`, such as RCPT TO, is no forward-path."""
    return f"501 5.1.3 Invalid address in {where}"


def sender_without_domain(sender: str) -> str:
    """An envelope sender that is neither null nor one address of a domain."""
    return f"500 Invalid from address <{sender}>"


def too_much_mail(sender: str) -> str:
    """A user sends faster than the relay allows."""
    return f"450 4.7.1: Too much mail from <{sender}>; try again later"


def relay_denied(recipient: str) -> str:
    """The recipient of what came by HTTP is not of this relay."""
    return f"550 5.7.1 <{recipient}>: Relay access denied"


def no_mailbox(recipient: str) -> str:
    """Nobody has the recipient's address."""
    return f"550 5.1.1 <{recipient}>: no such address here"


def unparsable(reason: object) -> str:
    """The message is not one by RFC 5322 and MIME."""
    return f"500 Failed to parse message: {reason}"


def invalid_author(reason: str) -> str:
    """The message does not say who its author is."""
    return f"500 Invalid FROM header: {reason}"


def author_is_not_sender(author: str, sender: str) -> str:
    """A user writes in the name of somebody else."""
    return f"500 Invalid FROM <{author}> for <{sender}>"


def encryption_needed(reason: str) -> str:
    """The message is not encrypted; `reason` is what is wrong with its encryption, "" where there is none."""
    return f"{ENCRYPTION_NEEDED} ({reason})" if reason else ENCRYPTION_NEEDED


def not_authenticated(reason: object) -> str:
    """The message is not known to be of its author."""
    return f"554 5.7.1 {reason}"


def authentication_failed_for_now(reason: object) -> str:
    """Whether the message is of its author cannot be told now."""
    return f"451 4.7.5 {reason}"


def forwarded(code: int, text: str, host: str) -> str:
    """The refusal of the mail server at `host`."""
    return f"{code} {text} (forwarded from {host})"


# Delivery by HTTPS.
DELIVERED = "250 2.0.0 OK (HTTPS)"
ONE_DOMAIN = "452 4.5.3 Recipients of one domain at a time"
EACH_ALONE = "451 4.5.3 Refused for some of the recipients; each alone is tried next"


def no_domain(recipient: str) -> str:
    """A recipient at what is neither a name nor the literal of an address."""
    return f"553 5.1.3 <{recipient}>: not an address at a domain"


def of_this_relay(recipient: str) -> str:
    """A recipient to whom mail does not leave the host."""
    return f"550 5.4.6 <{recipient}>: an address of this relay"


def no_mail_server(domain: str) -> str:
    """A domain that is not there, or takes no mail."""
    return f"550 5.1.2 {domain}: host or domain name not found, no mail server has an address"


def null_mx(domain: str) -> str:
    """A domain that says that it takes no mail (RFC 7505)."""
    return f"556 5.1.10 {domain} does not accept mail (null MX)"


def busy(domain: str) -> str:
    """A domain to which as much is under way as may be."""
    return f"451 4.3.2 Too many deliveries to {domain} by HTTPS at a time"


def not_by_https(reason: object) -> str:
    """Why a message could not be delivered by HTTPS; it stays in the queue."""
    return f"451 4.4.1 Not delivered by HTTPS: {reason}"


def is_success(reply: str) -> bool:
    """Whether `reply` to a message says that it was taken."""
    return reply.startswith("250 ")


def one_line(reply: str) -> str:
    """`reply` fit to be sent: printable ASCII, and short enough for RFC 5321 section 4.5.3.1.5."""
    return _UNPRINTABLE.sub("?", reply)[:500]
