"""What counts as end-to-end encrypted: packets, armor, MIME structure."""

import base64
import email
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmaild.message import mime, openpgp
from chatmaild.smtp.data import InvalidData, unstuff
from test.support import messages

ALICE, BOB = "alice@example.org", "bob@example.net"
SMALL = bytes.fromhex("c103030102d2050101020304")

ENCRYPTED_PAYLOADS = [
    "c103030102d2050101020304",
    "c10103c10103d20101",
    "c30104d20101",
    "d20101",
    "c10106d2020209",  # version 2
    "c10103d2e1010201aa",  # partial length
    "c10103d2e1010200",  # partial length, then zero
    "c10103d2ff00000003010203",
    "840103d20101",  # legacy key packet
    "850001 03d20101",  # legacy, two octets of length
    "8600000001 03d20101",  # legacy, four octets of length
]
OTHER_PAYLOADS = [
    "",
    "c103030102",
    "d20101c10103",
    "cb026200",
    "c8020100",
    "c10103c90101",
    "c10103cb026200",
    "870103",
    "410103d20101",
    "ca03504750c10103d20101",
    "c10103d20101d50100",
    "c10103d20501",
    "c10103d2",
    "c10103d40101",
    "c10103d20101d20101",  # a second encrypted packet
    "c1",
    "c1ff000000",
    "c1c0",
    "85 00",
    "d2e1",
    "d2e10102",
    "c1ffffffffff",
]


def is_encrypted_payload(payload: bytes) -> bool:
    """The answer, which must not depend on how the data is cut."""
    answers = {openpgp.is_encrypted_payload(_pieces(payload, size)) for size in (1, 7, 1 << 20)}
    assert len(answers) == 1
    return answers.pop()


def _pieces(payload: bytes, size: int) -> list[bytes]:
    return [payload[at : at + size] for at in range(0, len(payload), size)]


def is_encrypted_armor(text: bytes, *, outgoing: bool) -> bool:
    """The answer, which must not depend on what is around the armor."""
    alone = openpgp.is_encrypted_armor(text, 0, len(text), outgoing=outgoing)
    padded = b"\r\n=\r\n" + text + b"\r\n=\r\n"
    assert openpgp.is_encrypted_armor(bytearray(padded), 5, 5 + len(text), outgoing=outgoing) == alone
    return alone


@pytest.mark.parametrize("payload", ENCRYPTED_PAYLOADS)
def test_session_keys_before_one_encrypted_packet_are_encrypted(payload):
    assert is_encrypted_payload(bytes.fromhex(payload))


@pytest.mark.parametrize("payload", OTHER_PAYLOADS)
def test_any_other_packets_are_not_encrypted(payload):
    assert not is_encrypted_payload(bytes.fromhex(payload))


@pytest.mark.parametrize("size", [0, 1, 191, 192, 193, 8383, 8384, 70000])
def test_every_length_form_is_followed(size):
    payload = messages.packet(1, bytes(size)) + messages.packet(18, bytes(size))
    assert is_encrypted_payload(payload)
    assert not is_encrypted_payload(payload + b"\0")
    if size:
        assert not is_encrypted_payload(payload[:-1])


@pytest.mark.parametrize("exponent", [0, 1, 9, 16])
def test_partial_lengths_are_followed(exponent):
    payload = messages.partial_packet(18, bytes(100_001), exponent)
    assert is_encrypted_payload(payload)
    assert not is_encrypted_payload(payload[:-1])


def test_every_truncation_of_a_payload_is_refused():
    payload = messages.encrypted_payload(300)
    assert is_encrypted_payload(payload)
    assert not any(is_encrypted_payload(payload[:length]) for length in range(len(payload)))


@pytest.mark.parametrize("trailing", [b"", b"\r\n", b"\r\n\r\n\r\n"])
@pytest.mark.parametrize("outgoing", [True, False])
def test_line_breaks_after_the_armor_are_ignored(trailing, outgoing):
    text = messages.armor(SMALL).removesuffix(b"\r\n") + trailing
    assert is_encrypted_armor(text, outgoing=outgoing)


@pytest.mark.parametrize(
    "text",
    [
        messages.armor(SMALL, checksum=""),  # 12 octets need no padding
        messages.armor(SMALL, checksum="=njUN\r\n"),
        messages.armor(bytes.fromhex("d20101")),
        messages.armor(bytes.fromhex("d2020101")),  # padded, with checksum
        messages.armor(bytes.fromhex("d2020101"), checksum=""),  # padded, without
        messages.armor(SMALL).replace(b"-----\r\n\r\n", b"-----\r\n"),  # no blank line
        messages.armor(SMALL).replace(b"-----\r\n\r\n", b"-----\r\n\r\n\r\n"),
        messages.armor(messages.encrypted_payload(100_000)),
        messages.armor(SMALL).replace(b"\r\n", b" \t\r\n"),  # white space at the end of each line
        messages.armor(SMALL).removesuffix(b"\r\n") + b" \r\n \r\n\t",
        b"-----BEGIN PGP MESSAGE-----\r\n\r\nwQMDAQLSBQEBAgME\r\n=0000\r\n-----END PGP MESSAGE-----",
    ],
)
def test_armor_around_an_encrypted_message_is_accepted(text):
    assert is_encrypted_armor(text, outgoing=True)
    assert is_encrypted_armor(text, outgoing=False)


def _armored(content: str) -> bytes:
    return f"-----BEGIN PGP MESSAGE-----\r\n\r\n{content}\r\n-----END PGP MESSAGE-----\r\n".encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" " + messages.armor(SMALL),
        b"\r\n" + messages.armor(SMALL),
        messages.armor(SMALL).replace(b"\r\n", b"\n"),
        messages.armor(SMALL).replace(b"-----BEGIN PGP MESSAGE-----\r\n", b""),
        messages.armor(SMALL).replace(b"-----END PGP MESSAGE-----\r\n", b""),
        messages.armor(SMALL).replace(b"=abcd", b"= abcd"),
        messages.armor(SMALL).replace(b"-----END", b" -----END"),
        messages.armor(SMALL).replace(b"wQMD", b" wQMD"),
        messages.armor(SMALL).removesuffix(b"\r\n") + b"\n",
        messages.armor(SMALL) + b"text",
        messages.armor(SMALL).replace(b"MESSAGE", b"SIGNATURE"),
        messages.armor(SMALL, "Hi-Bob: hello\r\n"),
        messages.armor(SMALL, "Comment: " + "x" * 101 + "\r\n"),
        messages.armor(SMALL, "Comment: caf\xe9\r\n"),
        messages.armor(SMALL, "Comment: tab\tbed\r\n"),
        messages.armor(SMALL, "Comment: hi\r\n\r\nComment: Bob\r\n"),
        messages.armor(SMALL, "hello\r\n"),
        messages.armor(SMALL).replace(b"wQMD", b"wQ\xc3\xa4D"),
        messages.armor(SMALL).replace(b"wQMD", b"wQ D"),
        messages.armor(b""),
        b"-----BEGIN PGP MESSAGE-----\r\n-----END PGP MESSAGE-----",
        b"-----BEGIN PGP MESSAGE-----\r\n",
        _armored("HELLOWORLD"),
        _armored("HELLOWORLD\r\n=abcd"),
        _armored("=njUN"),
        _armored("\r\n=njUN"),
        _armored(base64.b64encode(b"some readable text").decode()),
        _armored("0gEB===="),
        _armored("0gIBAQ"),  # padding missing
        _armored("0gIBAQ=="[:-1]),
        _armored("=0gEB"),
        _armored("0gEB\r\n=abc"),
        _armored("0gEB\r\n=ab=d"),
        _armored("0gEB\r\n=abcd\r\n=abcd"),
    ],
)
def test_anything_else_is_no_armor_of_an_encrypted_message(text):
    assert not is_encrypted_armor(text, outgoing=True)
    assert not is_encrypted_armor(text, outgoing=False)


def test_a_version_line_passes_only_in_incoming_mail():
    text = messages.armor(SMALL, "Version: ProtonMail\r\n")
    assert is_encrypted_armor(text, outgoing=False)
    assert not is_encrypted_armor(text, outgoing=True)


@pytest.mark.parametrize(
    "headers",
    [
        "Comment: made by some client\r\n",
        "Version: GnuPG v2.0.22 (GNU/Linux)\r\nComment: Using GnuPG with Mozilla - http://enigmail.mozdev.org/\r\n",
        "Version: Mailvelope v4.3.1  \r\nComment: https://www.mailvelope.com\r\n",
        "Version: \r\nCharset: utf-8\r\nHash: SHA256, SHA512\r\nMessageID: 0123456789abcdef0123456789abcdef\r\n",
    ],
)
def test_short_armor_headers_pass_in_incoming_mail_alone(headers):
    assert is_encrypted_armor(messages.armor(SMALL, headers), outgoing=False)
    assert not is_encrypted_armor(messages.armor(SMALL, headers), outgoing=True)


@pytest.mark.parametrize("headers", ["Version: 1\r\nVersion: 2\r\n", "Version:1\r\n", "Comment: x\r\nComment: y\r\n"])
def test_each_armor_header_passes_once(headers):
    assert not is_encrypted_armor(messages.armor(SMALL, headers), outgoing=False)


def test_armor_in_one_line_is_accepted():
    text = messages.armor(messages.encrypted_payload(5000))
    head, body, checksum = text.partition(b"\r\n\r\n")[0], *text.partition(b"\r\n\r\n")[2].split(b"\r\n=", 1)
    one_line = head + b"\r\n\r\n" + body.replace(b"\r\n", b"") + b"\r\n=" + checksum
    assert is_encrypted_armor(one_line, outgoing=True)
    assert is_encrypted_armor(one_line.replace(b"=abcd\r\n", b""), outgoing=True)


@pytest.mark.parametrize("step", [1, 3, 4, 64, 66, 1000])
@pytest.mark.parametrize("size", [3, 97, 98, 99, 5000])
def test_the_answer_does_not_depend_on_the_steps_of_decoding(monkeypatch, step, size):
    monkeypatch.setattr(openpgp, "_DECODE_STEP", step)
    text = messages.armor(messages.packet(18, bytes(size)))
    assert is_encrypted_armor(text, outgoing=True)
    for wrong in (
        _armored("0gEB0g=="),
        _armored("0gE=0gEB"),
        _armored("0gEB0gE=0gEB0gEB"),
        _armored("0gEB0"),
        _armored("0gEB="),
    ):
        assert not is_encrypted_armor(wrong, outgoing=True)


def test_data_after_padding_is_refused_even_where_a_packet_would_end(monkeypatch):
    monkeypatch.setattr(openpgp, "_DECODE_STEP", 8)
    padded = base64.b64encode(messages.packet(18, bytes(2))).decode()
    assert padded.endswith("==")
    assert is_encrypted_armor(_armored(padded), outgoing=True)
    first, second = base64.b64encode(bytes.fromhex("d2020101")).decode(), "AQEB"
    assert not is_encrypted_armor(_armored(first + second), outgoing=True)


def _is_encrypted(message: bytes, *, outgoing: bool) -> bool:
    return openpgp.is_encrypted_message(mime.parse(message), outgoing=outgoing)


@pytest.mark.parametrize("outgoing", [True, False])
@pytest.mark.parametrize("build", [messages.encrypted, messages.legacy_packets, messages.partial_lengths])
def test_encrypted_messages_are_recognised(build, outgoing):
    assert _is_encrypted(build(ALICE, BOB), outgoing=outgoing)


@pytest.mark.parametrize("outgoing", [True, False])
@pytest.mark.parametrize("subject", ["...", "[...]", "Encrypted message", "A real subject", ""])
def test_the_subject_does_not_matter(subject, outgoing):
    assert _is_encrypted(messages.encrypted(ALICE, BOB, subject=subject), outgoing=outgoing)


@pytest.mark.parametrize("outgoing", [True, False])
@pytest.mark.parametrize(
    "build",
    [
        messages.plain,
        messages.fake_encrypted,
        messages.literal,
        messages.read_receipt,
        messages.bounce,
        messages.autocrypt_setup,
        messages.securejoin,
    ],
)
def test_other_messages_are_not_encrypted(build, outgoing):
    assert not _is_encrypted(build(ALICE, BOB), outgoing=outgoing)


def test_a_version_line_counts_as_encrypted_in_incoming_mail_only():
    message = messages.version_line(ALICE, BOB)
    assert _is_encrypted(message, outgoing=False)
    assert not _is_encrypted(message, outgoing=True)


@pytest.mark.parametrize("place", ["preamble", "epilogue"])
def test_text_around_the_parts_is_allowed_in_incoming_mail_only(place):
    message = messages.encrypted(ALICE, BOB, **{place: "Hi Bob, meet me at five.\r\n"})
    assert _is_encrypted(message, outgoing=False)
    assert not _is_encrypted(message, outgoing=True)


@pytest.mark.parametrize("text", sorted(openpgp.PREAMBLES))
def test_a_preamble_that_programs_write_is_allowed(text):
    for preamble in (f"{text}\r\n", f"\r\n  {text.replace(' ', '  ')}\r\n\r\n", text.replace(" ", "\r\n") + "\r\n"):
        assert _is_encrypted(messages.encrypted(ALICE, BOB, preamble=preamble), outgoing=True)
    for preamble in (f"{text} Hi!\r\n", f"Hi! {text}\r\n", f"{text}\r\n" * 2, f"{text}\r\n" + "\r\n" * 300 + "Hi!\r\n"):
        assert not _is_encrypted(messages.encrypted(ALICE, BOB, preamble=preamble), outgoing=True)
    assert not _is_encrypted(messages.encrypted(ALICE, BOB, epilogue=text), outgoing=True)


@pytest.mark.parametrize(("name", "client"), messages.CLIENTS.items())
def test_what_other_clients_send_is_encrypted(name, client):
    message = client(ALICE, BOB)
    assert _is_encrypted(message, outgoing=False)
    assert _is_encrypted(message, outgoing=True) is (name not in messages.CLIENTS_THAT_TELL_THEIR_NAME)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"preamble": "Hi Bob!\r\n"}, "line 10: text before the first part"),
        ({"epilogue": "Hi Bob!\r\n"}, "line 27: text after the last part"),
        ({"armored": messages.armor(SMALL, "Comment: x\r\n")}, "line 21: this line of the armor tells what program"),
        ({"armored": b"Hi Bob!\r\n"}, "line 20: armor of a PGP message does not begin here"),
        ({"armored": messages.armor(SMALL) + b"Hi!\r\n"}, "line 24: text after the armor"),
        ({"armored": messages.armor(SMALL).replace(b"wQMD", b"wQ D")}, "line 22: white space within a line of base64"),
        ({"armored": messages.armor(SMALL).replace(b"wQMD", b"wQ!D")}, "line 22: not base64"),
        ({"payload": b"Hi Bob!"}, ""),
        ({"extra_parts": "--sample-boundary\r\n\r\nHi!\r\n"}, "line 26: more than 2 parts"),
    ],
)
def test_a_refusal_says_in_which_line_what_is_wrong_and_quotes_nothing(changes, reason):
    message = messages.encrypted(ALICE, BOB, **({"payload": SMALL} | changes))
    with pytest.raises(openpgp.NotEncrypted) as refusal:
        openpgp.require_encrypted_message(mime.parse(message), outgoing=True)
    assert reason in str(refusal.value)
    assert "Bob" not in str(refusal.value)


def test_blank_lines_around_the_parts_are_no_text():
    assert _is_encrypted(messages.encrypted(ALICE, BOB, preamble="\r\n\r\n", epilogue="\r\n"), outgoing=True)


_ENCRYPTED = messages.encrypted(ALICE, BOB)
_SECOND_PART = _ENCRYPTED.index(b"Content-Type: application/octet-stream")
_THIRD_PART = f"--{messages.BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nHi!\r\n"


@pytest.mark.parametrize(
    "message",
    [
        messages.encrypted(ALICE, BOB, extra_parts=_THIRD_PART),
        _ENCRYPTED[: _SECOND_PART - 2] + b"--\r\n",  # one part
        _ENCRYPTED.replace(b"Version: 1\r\n", b"Version: 2\r\n"),
        _ENCRYPTED.replace(b"Version: 1\r\n", b"Version: 1\r\nHi!\r\n"),
        _ENCRYPTED.replace(b"Version: 1\r\n", b""),
        _ENCRYPTED.replace(b"multipart/encrypted", b"multipart/mixed"),
        _ENCRYPTED.replace(b"application/pgp-encrypted\r\n", b"text/plain\r\n"),
        _ENCRYPTED.replace(b"application/octet-stream", b"text/plain"),
        _ENCRYPTED.replace(b"application/octet-stream", b'multipart/mixed; boundary="x"'),
        _ENCRYPTED.replace(b"MIME-Version", b"Content-Type: text/html\r\nMIME-Version"),
        _ENCRYPTED.replace(b"boundary=", b"limit="),
        _ENCRYPTED.replace(b'boundary="sample', b'boundary="example'),
        _ENCRYPTED.replace(b"--sample-boundary--\r\n", b""),
        _ENCRYPTED.replace(b"--sample-boundary--\r\n", b"--sample-boundary"),
        _ENCRYPTED + b"--sample-boundary\r\n\r\nHi!\r\n--sample-boundary--\r\n",
        _ENCRYPTED.replace(b"\r\n-----END", b"\r\n--sample-boundaries\r\n-----END"),
        _ENCRYPTED.replace(b"-----BEGIN", b"Hi!\r\n-----BEGIN"),
        _ENCRYPTED.replace(b"MESSAGE-----\r\n\r\n--sample", b"MESSAGE-----\r\nHi!\r\n--sample"),
        _ENCRYPTED.replace(b"inline;", b"inline;\r\nContent-Transfer-Encoding: x-unknown\r\nX-Rest:"),
    ],
)
@pytest.mark.parametrize("outgoing", [True, False])
def test_a_message_of_another_structure_is_not_encrypted(message, outgoing):
    assert message != _ENCRYPTED
    assert not _is_encrypted(message, outgoing=outgoing)


@pytest.mark.parametrize("encoding", ["7bit", "8BIT", "binary", "base64", "quoted-printable"])
def test_transfer_encodings_are_undone(encoding):
    text = messages.armor(messages.encrypted_payload(100))
    if encoding == "base64":
        encoded = base64.encodebytes(text).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        encoded = text.replace(b"=", b"=3D")
    else:
        encoded = text
    message = messages.encrypted(ALICE, BOB, armored=encoded).replace(
        b"Content-Disposition:", f"Content-Transfer-Encoding: {encoding}\r\nContent-Disposition:".encode()
    )
    assert _is_encrypted(message, outgoing=True)


def test_names_and_types_are_compared_without_case():
    message = messages.encrypted(ALICE, BOB)
    message = message.replace(b"Content-Type: multipart/encrypted", b"CONTENT-TYPE: Multipart/ENCRYPTED")
    message = message.replace(b"application/octet-stream", b"Application/Octet-Stream")
    assert _is_encrypted(message, outgoing=True)


def test_octets_beyond_ascii_in_the_armor_are_refused():
    text = messages.armor(SMALL).replace(b"=abcd", b"=ab\xff\xff")
    assert not _is_encrypted(messages.encrypted(ALICE, BOB, armored=text), outgoing=False)


def test_what_is_accepted_looks_the_same_to_another_parser():
    source = random.Random(4880)
    sample = messages.encrypted(ALICE, BOB, payload=SMALL)
    pieces = [
        b"\r\n",
        b"--sample-boundary",
        b"--",
        b"=",
        b"Content-Type: text/plain\r\n",
        b" ",
        b'"',
        b"A",
        b"\xff",
        b";",
    ]
    accepted = 0
    for _ in range(5000):
        message = bytearray(sample)
        for _ in range(source.randint(1, 3)):
            at = source.randrange(len(message))
            message[at : at + source.randint(0, 3)] = source.choice(pieces)
        try:
            entity = mime.parse(unstuff(message))
        except (InvalidData, mime.MalformedMessage):
            continue
        if openpgp.is_encrypted_message(entity, outgoing=True):
            accepted += 1
            other = email.message_from_bytes(bytes(message))
            assert other.get_content_type() == "multipart/encrypted"
            assert [part.get_content_type() for part in other.get_payload()] == [
                "application/pgp-encrypted",
                "application/octet-stream",
            ]
            text = other.get_payload()[1].get_payload(decode=True)
            assert text.startswith(b"-----BEGIN PGP MESSAGE-----\r\n")
            assert text.rstrip(b"\r\n").endswith(b"-----END PGP MESSAGE-----")
            assert not (other.preamble or "").strip()
            assert not (other.epilogue or "").strip()
    assert 500 < accepted < 4500


packets = st.tuples(st.binary(max_size=300), st.sampled_from([messages.packet, messages.partial_packet]))


@given(st.binary(max_size=200))
def test_any_octets_get_the_same_answer_however_they_are_cut(octets):
    is_encrypted_payload(octets)


@given(st.lists(st.tuples(st.sampled_from([1, 3]), packets), max_size=5), packets)
def test_session_keys_and_one_encrypted_packet_pass(keys, encrypted):
    body, write = encrypted
    payload = b"".join(write_key(tag, key) for tag, (key, write_key) in keys) + write(18, body)
    assert is_encrypted_payload(payload)
    assert not is_encrypted_payload(payload[:-1]) or not body
    assert not is_encrypted_payload(payload + b"\0")


@given(st.lists(st.tuples(st.sampled_from([1, 3, 18, 18, 11]), packets), max_size=4))
def test_any_sequence_of_packets_is_judged_by_their_types_alone(sequence):
    tags = [tag for tag, _ in sequence]
    payload = b"".join(write(tag, body) for tag, (body, write) in sequence)
    assert is_encrypted_payload(payload) is (tags[-1:] == [18] and set(tags[:-1]) <= {1, 3})


@given(st.integers(0, 63).filter(lambda tag: tag not in (1, 3, 18)), st.binary(max_size=100), st.integers(0, 2))
def test_a_packet_of_another_type_is_never_encrypted(tag, body, place):
    pieces = [messages.packet(1, b"key"), messages.packet(18, b"\1secret")]
    pieces.insert(place, messages.packet(tag, body))
    assert not is_encrypted_payload(b"".join(pieces))
