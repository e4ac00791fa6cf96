"""The messages and moments of the delivery figures."""

import email

from test.relay.delivery import MOMENTS_S, encrypted_message


def test_messages_have_crlf_lines_and_the_two_parts_of_pgp_mime():
    raw = encrypted_message("a@_one.test", "b@_two.test")
    assert b"\n" not in raw.replace(b"\r\n", b"")
    message = email.message_from_bytes(raw)
    assert message.get_content_type() == "multipart/encrypted"
    assert [part.get_content_type() for part in message.get_payload()] == [
        "application/pgp-encrypted",
        "application/octet-stream",
    ]


def test_messages_differ():
    assert encrypted_message("a@_one.test", "b@_two.test") != encrypted_message("a@_one.test", "b@_two.test")


def test_moments_are_14_from_100_ms_to_2_s():
    assert len(MOMENTS_S) == 14
    assert (MOMENTS_S[0], MOMENTS_S[-1]) == (0.1, 2.0)
