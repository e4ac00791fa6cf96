"""Sample messages and OpenPGP data, made by code so that every octet of them is known."""

import base64
import os
from collections.abc import Callable

SESSION_KEY, PASSWORD_SESSION_KEY, LITERAL, ENCRYPTED = 1, 3, 11, 18

BOUNDARY = "sample-boundary"


def packet(tag: int, body: bytes) -> bytes:
    """An OpenPGP packet in the current format with a definite length."""
    length = len(body)
    if length < 192:
        header = bytes([length])
    elif length < 8384:
        header = bytes([((length - 192) >> 8) + 192, (length - 192) & 0xFF])
    else:
        header = b"\xff" + length.to_bytes(4)
    return bytes([0xC0 | tag]) + header + body


def legacy_packet(tag: int, body: bytes) -> bytes:
    """An OpenPGP packet in the legacy format with a two-octet length, as GnuPG writes it."""
    return bytes([0x80 | tag << 2 | 1]) + len(body).to_bytes(2) + body


def partial_packet(tag: int, body: bytes, exponent: int = 9) -> bytes:
    """An OpenPGP packet whose body comes in pieces of ``2 ** exponent`` octets and a rest."""
    step = 1 << exponent
    whole = len(body) // step * step
    pieces = b"".join(bytes([224 | exponent]) + body[at : at + step] for at in range(0, whole, step))
    return bytes([0xC0 | tag]) + pieces + packet(0, body[whole:])[1:]


def encrypted_payload(size: int = 2000) -> bytes:
    """Session keys for two X25519 recipients and `size` octets that look encrypted (RFC 9580 sections 5.1, 5.13)."""
    session_keys = b"".join(packet(SESSION_KEY, b"\x03" + os.urandom(8) + b"\x12" + os.urandom(84)) for _ in range(2))
    return session_keys + packet(ENCRYPTED, b"\x01" + os.urandom(size))


def armor(payload: bytes, headers: str = "", checksum: str = "=abcd\r\n") -> bytes:
    """ASCII armor of `payload`, with any checksum: nobody looks at it."""
    text = base64.b64encode(payload).decode()
    lines = "".join(text[at : at + 64] + "\r\n" for at in range(0, len(text), 64))
    return f"-----BEGIN PGP MESSAGE-----\r\n{headers}\r\n{lines}{checksum}-----END PGP MESSAGE-----\r\n".encode()


def encrypted(
    sender: str,
    recipient: str,
    *,
    payload: bytes | None = None,
    armored: bytes | None = None,
    subject: str = "...",
    preamble: str = "",
    epilogue: str = "",
    extra_parts: str = "",
    headers: str = "",
) -> bytes:
    """PGP/MIME, as RFC 3156 section 4 has it."""
    if armored is None:
        armored = armor(encrypted_payload() if payload is None else payload)
    return b"".join(
        [
            _headers(sender, recipient, subject, headers),
            'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";\r\n'
            f' boundary="{BOUNDARY}"\r\n\r\n{preamble}--{BOUNDARY}\r\n'
            "Content-Type: application/pgp-encrypted\r\n"
            "Content-Description: PGP/MIME version identification\r\n\r\nVersion: 1\r\n\r\n"
            f"--{BOUNDARY}\r\n"
            'Content-Type: application/octet-stream; name="encrypted.asc"\r\n'
            'Content-Disposition: inline; filename="encrypted.asc"\r\n\r\n'.encode(),
            armored,
            f"\r\n{extra_parts}--{BOUNDARY}--\r\n{epilogue}".encode(),
        ]
    )


def literal(sender: str, recipient: str) -> bytes:
    """Built like `encrypted`, but what is in the armor is readable by all."""
    return encrypted(sender, recipient, payload=packet(LITERAL, b"b\x00\0\0\0\0hello"))


def version_line(sender: str, recipient: str) -> bytes:
    """Like `encrypted`, with the armor header that Proton Mail writes."""
    return encrypted(sender, recipient, armored=armor(encrypted_payload(), "Version: Some Client 1.0\r\n"))


def _client(
    preamble: str = "", armor_headers: str = "", change: tuple[str, str] = ("", "")
) -> Callable[[str, str], bytes]:
    """A message as a client shapes it: its preamble, its header lines in the armor, a text that it writes otherwise."""

    def build(sender: str, recipient: str) -> bytes:
        armored = armor(encrypted_payload(), armor_headers)
        message = encrypted(sender, recipient, armored=armored, preamble=preamble)
        return message.replace(*(text.encode() for text in change)) if change[0] else message

    return build


_RFC_4880 = "This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\r\n"
_ATTACHED = 'Content-Type: application/octet-stream; name="encrypted.asc"'
CLIENTS = {
    "Delta Chat": encrypted,
    "Thunderbird": _client(_RFC_4880, change=(BOUNDARY, "------------GRBMPXxF0TFHRTWz0i5hSkCc")),
    "Enigmail": _client(_RFC_4880, "Charset: utf-8\r\n"),
    "GPGMail": _client("This is an OpenPGP/MIME encrypted message (RFC 2440 and 3156)\r\n"),
    "Mailvelope": _client(_RFC_4880, "Version: Mailvelope v4.3.1\r\nComment: https://www.mailvelope.com\r\n"),
    "Proton Mail": _client(_RFC_4880, "Version: ProtonMail\r\n"),
    "K-9 Mail": _client(change=(BOUNDARY, "----CI5F8QM2UGIMT9XZ5MAPJXT8L0B8XZ")),
    "FairEmail": _client(change=(_ATTACHED, "Content-Type: application/octet-stream; name=encrypted.asc")),
    "Mutt": _client(
        change=(
            'multipart/encrypted; protocol="application/pgp-encrypted";\r\n boundary="sample-boundary"',
            'multipart/encrypted; protocol="application/pgp-encrypted";\r\n\tboundary="sample-boundary"',
        )
    ),
    "KMail": _client(change=("Version: 1\r\n\r\n--", "Version: 1\r\n--")),
    "GnuPG before 2.1": _client("", "Version: GnuPG v2.0.22 (GNU/Linux)\r\n"),
}
# Users of a relay are not to tell it; see openpgp.py.
CLIENTS_THAT_TELL_THEIR_NAME = {"Enigmail", "Mailvelope", "Proton Mail", "GnuPG before 2.1"}


def legacy_packets(sender: str, recipient: str) -> bytes:
    """Like `encrypted`, with a session key packet as GnuPG writes it."""
    payload = legacy_packet(SESSION_KEY, b"\x03" + os.urandom(270)) + packet(ENCRYPTED, os.urandom(500))
    return encrypted(sender, recipient, payload=payload)


def partial_lengths(sender: str, recipient: str) -> bytes:
    """Like `encrypted`, with partial body lengths."""
    payload = packet(SESSION_KEY, os.urandom(94)) + partial_packet(ENCRYPTED, os.urandom(3000))
    return encrypted(sender, recipient, payload=payload)


def plain(sender: str, recipient: str, text: str = "Hello!\r\n", headers: str = "") -> bytes:
    """Readable text."""
    return _headers(sender, recipient, "Hello", headers) + f"\r\n{text}".encode()


def fake_encrypted(sender: str, recipient: str) -> bytes:
    """Readable text between the marker lines of armor."""
    return plain(sender, recipient, "-----BEGIN PGP MESSAGE-----\r\n\r\nHi!\r\n\r\n-----END PGP MESSAGE-----\r\n")


def read_receipt(sender: str, recipient: str) -> bytes:
    """An unencrypted message disposition notification (RFC 8098)."""
    return _report(sender, recipient, "disposition-notification", "Disposition: manual-action; displayed\r\n")


def bounce(sender: str, recipient: str) -> bytes:
    """A delivery status notification (RFC 3464)."""
    return _report(sender, recipient, "delivery-status", "Action: failed\r\nStatus: 5.1.1\r\n")


def autocrypt_setup(sender: str, recipient: str) -> bytes:
    """An Autocrypt Setup Message (Autocrypt 1.1 section 4.4)."""
    return (
        _headers(sender, recipient, "Autocrypt Setup Message", "Autocrypt-Setup-Message: v1\r\n")
        + (
            f'Content-Type: multipart/mixed; boundary="{BOUNDARY}"\r\n\r\n'
            f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nThis holds a key.\r\n"
            f"--{BOUNDARY}\r\nContent-Type: application/autocrypt-setup\r\n\r\n<html></html>\r\n--{BOUNDARY}--\r\n"
        ).encode()
    )


def securejoin(
    sender: str, recipient: str, *, header: str = "vc-request", text: str = "secure-join: vc-request"
) -> bytes:
    """The request for a key that opens contact verification."""
    return (
        _headers(sender, recipient, "Message", f"Secure-Join: {header}\r\n")
        + (
            f'Content-Type: multipart/mixed; boundary="{BOUNDARY}"\r\n\r\n'
            f"--{BOUNDARY}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n\r\n--{BOUNDARY}--\r\n"
        ).encode()
    )


def with_header_section(message: bytes, size: int, shape: str) -> bytes:
    """`message` with a header section of `size` octets, the line break at its end aside.

    :param shape: `one field`, To, of very many short addresses, or `many fields`.
    """
    room = size - message.index(b"\r\n\r\n")
    if shape == "many fields":
        field = b"X-Field: " + b"v" * 189 + b"\r\n"
        more = field * (room // len(field) - 1)
    else:
        addresses = b",\r\n ".join([b"a@b.test" + b",c@d.test" * 6] * ((room - 1000) // 70))
        more = b"Cc: " + addresses + b"\r\n"
    rest = bytearray(b"X-Rest: " + b"r" * (room - len(more) - 10))
    for at in range(900, len(rest) - 3, 900):
        rest[at : at + 3] = b"\r\n "
    return more + rest + b"\r\n" + message


def securejoin_single(sender: str, recipient: str, text: str = "Secure-Join: vg-request") -> bytes:
    """The request for a key as Delta Chat 2.59 sends it: one text, no multipart."""
    return (
        _headers(sender, recipient, "[...]", "Secure-Join: vg-request\r\nChat-Version: 1.0\r\n")
        + f'Content-Type: text/plain; charset="utf-8"\r\n\r\n{text}\r\n'.encode()
    )


def _headers(sender: str, recipient: str, subject: str, more: str = "") -> bytes:
    return (
        f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: {subject}\r\n"
        f"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{os.urandom(8).hex()}@localhost>\r\n"
        f"{more}MIME-Version: 1.0\r\n"
    ).encode()


def _report(sender: str, recipient: str, report_type: str, status: str) -> bytes:
    return (
        _headers(sender, recipient, "Report", "Auto-Submitted: auto-replied\r\n")
        + (
            f'Content-Type: multipart/report; report-type={report_type}; boundary="{BOUNDARY}"\r\n\r\n'
            f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nThis is a report.\r\n"
            f"--{BOUNDARY}\r\nContent-Type: message/{report_type}\r\n\r\n{status}\r\n--{BOUNDARY}--\r\n"
        ).encode()
    )
