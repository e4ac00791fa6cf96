"""Which messages may pass the filter: what users may send, and what others may.

All that is asked here can be answered from envelope, message and the mailboxes' flags. Whether a message is from the
author whom it names is `authentication`'s question.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

from ..config import Config
from ..mailboxes.mailbox import without_detail
from ..message import mime, openpgp
from ..message.address import is_literal, parse_from, same
from ..smtp import replies
from ..smtp.client import Envelope
from ..smtp.data import InvalidData, unstuff

SECUREJOIN_REQUESTS = (b"vc-request", b"vg-request")
SECUREJOIN_TEXT_MAX = 1000  # octets
# At which every domain is to be reached (RFC 5321 section 4.5.1, RFC 2142 section 4).
ROLES = ("postmaster", "abuse")

_ROUTING = frozenset("@%!")  # in a local part Postfix may read them as a way to another host
_QUOTED_PAIR = re.compile(r"\\(.)")  # RFC 5321 section 4.1.2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """What both filters read."""

    max_message_size: int  # octets
    filtermail_host: str
    postfix_host: str
    operator_address: str  # gets mail to the roles; "" for nobody


@dataclass(frozen=True, kw_only=True)
class OutgoingSettings(Settings):
    """What the filter for mail that users submit reads."""

    max_user_send_per_minute: int
    max_user_send_burst_size: int
    passthrough_senders: tuple[str, ...]
    passthrough_recipients: tuple[str, ...]
    postfix_reinject_port: int


@dataclass(frozen=True, kw_only=True)
class IncomingSettings(Settings):
    """What the filter for mail from other servers reads."""

    postfix_reinject_port_incoming: int


class Refused(Exception):
    """A rule refuses the message; the text is the SMTP reply."""


Rules = Callable[[Config, Envelope, mime.Entity], Envelope]


def examine(
    rules: Rules, config: Settings, envelope: Envelope, data: bytes | bytearray
) -> tuple[Envelope, mime.Entity]:
    """Apply all rules to one message.

    :param data: the message, dot-stuffed.
    :returns: the envelope with which the message goes on, without recipients it is to be dropped; and the message.
    :raises Refused: it does not go on.
    """
    try:
        message = unstuff(data)
    except InvalidData:
        raise Refused(replies.INVALID_DATA) from None
    if len(message) > config.max_message_size:
        raise Refused(replies.TOO_LARGE)
    try:
        entity = mime.parse(message)
    except mime.MalformedMessage as error:
        raise Refused(replies.unparsable(error)) from error
    return rules(config, envelope, entity), entity


def outgoing_rules(config: OutgoingSettings, envelope: Envelope, message: mime.Entity) -> Envelope:
    """What a user may send: encrypted mail, under the own address; see `examine`.

    Lines as short as every mail server takes them: Postfix breaks longer ones, after OpenDKIM has signed.
    """
    recipients = [to for to in envelope.recipients if not is_disabled(config, to)]
    author = from_address(message)
    if not same(author, envelope.sender):
        raise Refused(replies.author_is_not_sender(author, envelope.sender))
    why_not = unencrypted(message, outgoing=True)
    logger.info("Outgoing: Filtering %s mail.", "unencrypted" if why_not else "encrypted")
    if not (
        not why_not
        or is_securejoin_request(message)
        or any(same(envelope.sender, item) for item in config.passthrough_senders)
        or is_autocrypt_setup(message, envelope.sender, recipients)
        or all(is_role(config, to) or passes_recipient(config, to) for to in recipients)
    ):
        logger.info("Rejected unencrypted mail")
        raise Refused(why_not)
    try:
        mime.require_short_lines(message)
    except mime.MalformedMessage as error:
        raise Refused(replies.unparsable(error)) from error
    if is_disabled(config, envelope.sender):
        recipients = []
    return Envelope(envelope.sender, to_operator(config, recipients))


def incoming_rules(config: Settings, envelope: Envelope, message: mime.Entity) -> Envelope:
    """What others may send: encrypted mail, and bounces; see `examine`. `IncomingFilter` checks where it is from."""
    author = from_address(message)
    recipients = [to for to in envelope.recipients if not is_disabled(config, to)]
    why_not = unencrypted(message, outgoing=False)
    # Each message counts once (monitoring, by these texts): encrypted, a bounce, or unencrypted.
    if not why_not:
        logger.info("Incoming: Filtering encrypted mail.")
    elif is_bounce(message, author) and not is_securejoin_request(message):
        logger.info("Incoming: Filtering mailer-daemon message from %s", replies.one_line(author))
    else:
        logger.info("Incoming: Filtering unencrypted mail.")
        enforced = is_literal(author) or any(enforces_e2ee(config, to) for to in recipients if not is_role(config, to))
        if enforced and not is_securejoin_request(message):
            logger.info("Rejected unencrypted mail")
            raise Refused(why_not)
    # Forwarders rewrite the sender, forgers choose it: no bounce may go to an address that is not the author's,
    # and none is made that would be refused.
    sender = envelope.sender if same(author, envelope.sender) and not is_without_bounces(config, author) else ""
    return Envelope(sender, to_operator(config, recipients))


def is_without_bounces(config: Settings, author: str) -> bool:
    """Whether author and relay are both without a name: neither signs, so each refuses bounces of the other."""
    return is_literal(author) and is_literal(config.mail_domain)


def from_address(message: mime.Entity) -> str:
    """The author. RFC 5322 section 3.6 has exactly one From field; clients show one of several, DKIM checks another.

    :raises Refused: there is not exactly one field with exactly one address.
    """
    values = message.values(b"from")
    if len(values) != 1:
        raise Refused(replies.invalid_author(f"{len(values)} fields, allowed is one"))
    author = parse_from(values[0])
    if author is None:
        raise Refused(replies.invalid_author("allowed is one address, such as: Name <user@example.org>"))
    return author


def unencrypted(message: mime.Entity, *, outgoing: bool) -> str:
    """The reply to a message that is not encrypted, "" for one that is; who sends PGP/MIME is told what is wrong."""
    try:
        openpgp.require_encrypted_message(message, outgoing=outgoing)
    except openpgp.NotEncrypted as error:
        return replies.encryption_needed(str(error))
    return ""


def is_securejoin_request(message: mime.Entity) -> bool:
    """Whether this is the one cleartext message by which a contact without known key is asked for it.

    It is one text, which may be the only part of a multipart.
    """
    try:
        if message.value(b"secure-join") not in SECUREJOIN_REQUESTS:
            return False
        part = message
        if message.content_type().startswith("multipart/"):
            (part,) = message.parts(1, preamble=mime.no_text, epilogue=mime.no_text)
        if part.content_type() != "text/plain" or part.end - part.start > SECUREJOIN_TEXT_MAX:
            return False
        text = part.body().strip().lower()
    except ValueError:  # malformed, or no part
        return False
    return text in [b"secure-join: " + request for request in SECUREJOIN_REQUESTS]


def is_autocrypt_setup(message: mime.Entity, sender: str, recipients: list[str]) -> bool:
    """Whether a user sends the own key to the own other devices (Autocrypt 1.1 section 4.4)."""
    return (
        len(recipients) == 1
        and same(recipients[0], sender)
        and message.values(b"subject") == [b"Autocrypt Setup Message"]
        and _has_type(message, "multipart/mixed")
    )


def is_bounce(message: mime.Entity, author: str) -> bool:
    """Whether a mail server reports on a delivery (RFC 3464)."""
    return (
        any(message.values(b"auto-submitted"))
        and author.lower().startswith("mailer-daemon@")
        and _has_type(message, "multipart/report")
    )


def _has_type(message: mime.Entity, content_type: str) -> bool:
    try:
        return message.content_type() == content_type
    except mime.MalformedMessage:
        return False


def passes_recipient(config: OutgoingSettings, recipient: str) -> bool:
    """Whether an item of passthrough_recipients, an address or ``@domain``, lets cleartext to `recipient` pass."""
    address = recipient.lower()
    return any(
        address == item or (item.startswith("@") and address.endswith(item))
        for item in map(str.lower, config.passthrough_recipients)
    )


def is_role(config: Settings, recipient: str) -> bool:
    """Whether `recipient` is one of the ROLES of this relay, and somebody gets their mail."""
    try:
        local_part, _, domain = delivery_address(config, recipient).rpartition("@")
    except ValueError:
        return False
    return bool(config.operator_address) and domain == config.mail_domain and local_part in ROLES


def to_operator(config: Settings, recipients: list[str]) -> list[str]:
    """The recipients with the operator's address in the place of roles."""
    found = [to for to in recipients if not is_role(config, to)]
    operator = config.operator_address
    if len(found) < len(recipients) and operator not in found and not is_disabled(config, operator):
        found.append(operator)
    return found


def is_disabled(config: Settings, address: str) -> bool:
    """Whether the operator has shut `address` off."""
    try:
        return config.mailbox(delivery_address(config, address)).is_disabled()
    except ValueError:
        return False


def enforces_e2ee(config: Settings, recipient: str) -> bool:
    """Whether `recipient` refuses cleartext; so does what may be another spelling of such an address."""
    try:
        return config.mailbox(delivery_address(config, recipient)).enforces_e2ee()
    except ValueError:
        return True


def has_mailbox(config: Settings, recipient: str) -> bool:
    """Whether `recipient` has an address here; so may whoever's address Postfix reads as a route."""
    try:
        return config.mailbox(delivery_address(config, recipient)).exists()
    except ValueError:
        return True


def delivery_address(config: Settings, address: str) -> str:
    """The address that Postfix and Dovecot take `address` for, however it is spelled.

    A quoted local part means what is in the quotes, one without a domain gets ours (myorigin), and the dot at the end
    of an absolute domain goes.

    :raises ValueError: what the quotes held looks like a route, which Postfix resolves in ways that are not known here.
    """
    local_part, at, domain = address.rpartition("@")
    if not at:
        local_part, domain = address, config.mail_domain
    if local_part.startswith('"'):
        local_part = _QUOTED_PAIR.sub(r"\1", local_part[1:-1])
    if not _ROUTING.isdisjoint(local_part):
        raise ValueError("routes are not resolved")
    return without_detail(f"{local_part}@{domain.rstrip('.')}")
