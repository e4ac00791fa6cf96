"""chatmaild.smtp.replies: each reply is one by RFC 5321 and 3463, and apps find the texts that they look for."""

import re

import pytest

from chatmaild.smtp import replies

# RFC 5321 section 4.2, RFC 3463 section 2
REPLY = re.compile(r"(?P<class>[245])[0-5][0-9] (?:(?P<enhanced>[245])\.[0-9]{1,3}\.[0-9]{1,3}:? )?[\x20-\x7e]+")
EXAMPLES = {
    **{name: value for name, value in vars(replies).items() if name.isupper() and isinstance(value, str)},
    "invalid_sender": replies.invalid_sender("MAIL FROM"),
    "invalid_recipient": replies.invalid_recipient("RCPT TO"),
    "sender_without_domain": replies.sender_without_domain("alice"),
    "too_much_mail": replies.too_much_mail("alice@example.org"),
    "relay_denied": replies.relay_denied("bob@example.net"),
    "unparsable": replies.unparsable("no header"),
    "invalid_author": replies.invalid_author("2 fields, allowed is one"),
    "author_is_not_sender": replies.author_is_not_sender("bob@example.org", "alice@example.org"),
    "not_authenticated": replies.not_authenticated("No DKIM signature found"),
    "authentication_failed_for_now": replies.authentication_failed_for_now("try again later"),
}


@pytest.mark.parametrize("reply", EXAMPLES.values(), ids=EXAMPLES)
def test_the_enhanced_status_of_a_reply_has_the_class_of_its_code(reply):
    if reply == replies.START_DATA:
        assert reply == "354 End data with <CR><LF>.<CR><LF>"
        return
    match = REPLY.fullmatch(reply)
    assert match
    assert match["enhanced"] in (None, match["class"])


def test_what_apps_and_other_relays_look_for_stays_as_it_is():
    assert replies.encryption_needed("") == "523 Encryption Needed: Invalid Unencrypted Mail"
    assert replies.encryption_needed("line 3: no dash") == f"{replies.ENCRYPTION_NEEDED} (line 3: no dash)"
    assert EXAMPLES["too_much_mail"] == "450 4.7.1: Too much mail from <alice@example.org>; try again later"
    assert EXAMPLES["not_authenticated"] == "554 5.7.1 No DKIM signature found"
    assert replies.TOO_LARGE == "552 Message exceeds maximum size"
    assert replies.TOO_MANY_CONNECTIONS == (
        "421 4.7.0 Too many connections from your network at a time; try again later"
    )


def test_replies_are_sent_in_one_short_line_of_printable_ascii():
    assert replies.one_line("500 a\r\n250 \xff") == "500 a??250 ?"
    assert len(replies.one_line("5" * 600)) == 500
