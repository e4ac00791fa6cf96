"""Header sections and multipart bodies, hostile ones too."""

import contextlib

import pytest

from chatmaild.message import mime
from chatmaild.message.mime import MalformedMessage


def test_fields_stay_folded_and_their_names_are_lowered():
    entity = mime.parse(b"Subject: one\r\n\ttwo\r\n  three \r\nFROM:a@b\r\nX:\r\n y\r\n\r\nbody\r\n")
    assert entity.fields == [(b"subject", b"one\r\n\ttwo\r\n  three"), (b"from", b"a@b"), (b"x", b"y")]
    assert entity.body() == b"body\r\n"


@pytest.mark.parametrize(
    ("message", "names"),
    [(b"A: 1\r\n", [b"a"]), (b"A: 1\r\n\r\n", [b"a"]), (b"\r\nA: 1\r\n", []), (b"", [])],
)
def test_header_section_and_body_may_each_be_missing(message, names):
    assert [name for name, _ in mime.parse(message).fields] == names


@pytest.mark.parametrize(
    "message",
    [
        b"From alice Sat Nov 21\r\nA: 1\r\n\r\n",
        b" folded: first\r\n\r\n",
        b"From : a@b\r\n\r\n",
        b": value\r\n\r\n",
        b"A: 1\r\nno colon\r\n\r\n",
        b"A: 1\0\r\n\r\n",
        "Ä: 1\r\n\r\n".encode(),
    ],
)
def test_lines_that_readers_would_understand_differently_are_refused(message):
    with pytest.raises(MalformedMessage, match="header field"):
        mime.parse(message)


def test_a_header_section_of_the_largest_size_is_read_and_a_larger_one_refused():
    field = b"A: " + b"x" * (mime.HEADERS_MAX - 3)
    assert mime.parse(field + b"\r\n\r\nbody").value(b"a") == field[3:]
    with pytest.raises(MalformedMessage, match="64000"):
        mime.parse(field + b"x\r\n\r\nbody")
    with pytest.raises(MalformedMessage, match="64000"):
        mime.parse(b"a:\r\n" * 5_000_000)


def test_a_repeated_field_has_no_value():
    entity = mime.parse(b"A: 1\r\nA: 2\r\n\r\n")
    assert entity.values(b"a") == [b"1", b"2"]
    with pytest.raises(MalformedMessage, match="2 a fields"):
        entity.value(b"a")


def _multipart(body: bytes, boundary: bytes = b"b") -> mime.Entity:
    return mime.parse(b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n' + body)


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"--b\r\nA: 1\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", [b"one", b"two"]),
        (b"\r\n--b \t\r\n\r\none\r\n--b--", [b"one"]),
        (b"--b\r\n--b--\r\n", [b""]),
        (b"--b\r\n\r\n--b--\r\n", [b""]),
        (b"--b\r\n\r\n\r\n--b--\r\n", [b""]),
        (b"--b--\r\n", []),
        (b"--b\r\n\r\none\r\n--c\r\n--b--\r\n", [b"one\r\n--c"]),
    ],
)
def test_parts_are_what_is_between_delimiter_lines(body, parts):
    assert [part.body() for part in _multipart(body).parts(2, preamble=mime.no_text, epilogue=mime.no_text)] == parts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no delimiter\r\n",
        b"--b\r\n\r\nnever closed\r\n",
        b"--b\r\n\r\none\r\n--b--x\r\n",
        b"--bx\r\n\r\none\r\n--b--\r\n",
        b"--b\r\n\r\none\r\n--bx\r\n--b--\r\n",
        b"--b\r\n\r\none\r\n--b--\r\n--b\r\n\r\ntwo\r\n--b--\r\n",
        b"--b\r\nno field\r\n\r\none\r\n--b--\r\n",
        b"--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b\r\n\r\n3\r\n--b--\r\n",
    ],
)
def test_ambiguous_and_broken_multiparts_are_refused(body):
    with pytest.raises(MalformedMessage):
        _multipart(body).parts(2, preamble=mime.any_text, epilogue=mime.any_text)


def test_millions_of_parts_are_not_looked_at():
    with pytest.raises(MalformedMessage, match="more than 2 parts"):
        _multipart(b"--b\r\n" * 3_000_000).parts(2, preamble=mime.any_text, epilogue=mime.any_text)


def test_nesting_is_not_followed():
    body = b"".join(
        b'--b%d\r\nContent-Type: multipart/mixed; boundary="b%d"\r\n\r\n' % (n, n + 1) for n in range(100_000)
    )
    with pytest.raises(MalformedMessage):
        _multipart(body, b"b0").parts(2, preamble=mime.any_text, epilogue=mime.any_text)


@pytest.mark.parametrize(
    "parameters",
    [
        b"boundary=b",
        b' Boundary = "b" ; x=y',
        b'protocol="a/b; c"; boundary=b; micalg="x"',
        b" boundary=b ;",
        b"\r\n\tx=y;\r\n boundary=b",
    ],
)
def test_a_boundary_is_read_with_and_without_quotes(parameters):
    message = b"Content-Type: multipart/mixed;" + parameters + b"\r\n\r\n--b\r\n\r\none\r\n--b--\r\n"
    assert [part.body() for part in mime.parse(message).parts(1, preamble=mime.no_text, epilogue=mime.no_text)] == [
        b"one"
    ]


@pytest.mark.parametrize(
    "parameters",
    [
        b"",
        b"boundary=",
        b'boundary=""',
        b'boundary="b ";',
        b"boundary=b; boundary=evil",
        b"boundary=evil; boundary=b",
        b"boundary=b; BOUNDARY =evil",
        b"boundary=b; boundary*=us-ascii''evil",
        b"boundary*0=b; boundary*1=c",
        b"boundary*=us-ascii''b",
        b'boundary=b; x="; boundary=evil; y="',
        b'x="; boundary=b; y="',
        b'x="\\"; boundary=b; y="',
        b'x"; boundary=b',
        b"boundary=b evil",
        b"boundary=b (evil)",
        b'boundary="b" evil',
        b'boundary="\\b"',
        "boundary=bä".encode(),
        b'boundary="b b"',
        b"boundary=b;; x=y",
        b"boundary=b\x0b",
        b"boundary\xa0=b",
        b"boundary=b; x\xc2\xa0; boundary*=evil",
        b"boundary=b; x==?utf-8?q?=3B_boundary=3Devil?=",
        b'boundary=b; x="=?utf-8?q?=22=3B_boundary=3Devil=3B_x=3D=22?="',
        b"boundary=b; (boundary=evil)",
        b"boundary=b; x=y; X=z",
        b"boundary=b\r\n ",
        b"\r\n \r\n boundary=b",
        b'boundary=b; x="\r\n y"',
        b'boundary="' + b"b" * 71 + b'"',
        b'boundary="' * 5_000,
        b";" * 30_000 + b" " * 30_000,
    ],
    ids=lambda parameters: ascii(parameters[:40]),
)
def test_a_boundary_that_readers_would_understand_differently_is_refused(parameters):
    message = b"Content-Type: multipart/mixed; " + parameters + b"\r\n\r\n--b\r\n\r\none\r\n--b--\r\n"
    with pytest.raises(MalformedMessage, match=r"boundary|content-type"):
        mime.parse(message).parts(1, preamble=mime.any_text, epilogue=mime.any_text)


@pytest.mark.parametrize(
    ("value", "content_type"),
    [
        (b"Text/HTML ; charset=utf-8", "text/html"),
        (b"", "text/plain"),
        (b'application/octet-stream; name="=?utf-8?q?a?= ;(b).asc";', "application/octet-stream"),
        (b"application/octet-stream; name*=utf-8''a.asc", "application/octet-stream"),
    ],
)
def test_a_content_type_is_two_tokens(value, content_type):
    assert mime.parse(b"Content-Type: " + value + b"\r\n\r\n").content_type() == content_type


@pytest.mark.parametrize(
    "value",
    [
        b"multipart/encrypted, text/html",
        b"multipart/encrypted(c); boundary=b",
        b"multipart/mixed/encrypted",
        b'"multipart/encrypted"',
        b"\xe4/b",
        b"multipart /encrypted",
        b"=?utf-8?q?multipart/encrypted?=",
        b"multipart/encrypted; boundary",
        b"multipart/encrypted;;",
        b"multipart/encrypted\x0b",
        b"multipart/encrypted\xa0",
        b"multipart",
    ],
)
def test_what_is_no_content_type_by_the_grammar_is_none(value):
    with pytest.raises(MalformedMessage, match="content-type"):
        mime.parse(b"Content-Type: " + value + b"\r\n\r\n").content_type()


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable", b"x", b"7bit\r\nContent-Transfer-Encoding: 7bit"])
def test_a_multipart_has_no_transfer_encoding(encoding):
    message = b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: " + encoding
    with pytest.raises(MalformedMessage, match="encoding"):
        mime.parse(message + b"\r\n\r\n--b\r\n\r\none\r\n--b--\r\n").parts(
            1, preamble=mime.any_text, epilogue=mime.any_text
        )


@pytest.mark.parametrize("value", [b"base64 (c)", b"base64;", b"=?utf-8?q?base64?=", b"base64\x0b", b"7bit, base64"])
def test_a_transfer_encoding_is_one_token(value):
    with pytest.raises(MalformedMessage, match="encoding"):
        mime.parse(b"Content-Transfer-Encoding: " + value + b"\r\n\r\naGk=\r\n").body()


@pytest.mark.parametrize("body", [b"a=\r\nb =3D =3d\tc\r\n"])
def test_quoted_printable_is_read(body):
    assert mime.parse(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + body).body() == b"ab = =\tc\r\n"


@pytest.mark.parametrize("body", [b"a=", b"a=3", b"a=3G", b"a= \r\nb", b"a \r\n", b"a\xff", b"a\x0b", b"=\n"])
def test_quoted_printable_that_readers_would_decode_differently_is_refused(body):
    with pytest.raises(MalformedMessage, match="quoted-printable"):
        mime.parse(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + body).body()


@pytest.mark.parametrize(
    ("encoding", "body", "decoded"),
    [
        (b"7bit", b"a=3D\r\n", b"a=3D\r\n"),
        (b"Quoted-Printable", b"a=3D\r\n", b"a=\r\n"),
        (b"BASE64", b"aGVs\r\nbG8=\r\n", b"hello"),
    ],
)
def test_bodies_are_decoded(encoding, body, decoded):
    assert mime.parse(b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body).body() == decoded


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"base64", b"a"),
        (b"base64", b"aGVsbG8=\r\n--evil\r\n\r\nreadable\r\n"),
        (b"base64", b"-- aGVsbG8="),
        (b"x-uuencode", b""),
    ],
)
def test_bodies_that_cannot_be_decoded_are_refused(encoding, body):
    with pytest.raises(MalformedMessage):
        mime.parse(b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body).body()


LONGEST = b"x" * mime.LINE_MAX


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (b"A: 1\r\n\r\n" + LONGEST + b"\r\n" + LONGEST + b"\r\n", ""),
        (b"A: 1\r\n\r\n" + LONGEST + b"x\r\n", "line 3: 999 octets,"),
        (b"A: 1\r\n\r\nshort\r\n" + LONGEST + LONGEST + b"\r\nshort\r\n", "line 4: 1996 octets,"),
        (b"A: " + LONGEST + b"\r\nB: 2\r\n\r\ntext\r\n", "line 1, header field A: 1001 octets,"),
        (b"A: 1\r\nLong: 2\r\n " + LONGEST + b"\r\nB: 2\r\n\r\n", "line 3, header field Long: 999 octets,"),
        (b"N" * 990 + b": 12345678\r\n\r\n", f"line 1, header field {'N' * 60}: 1000 octets,"),
        (b"A: 1\r\nB: " + b"x" * 980 + b"\r\n\r\n" + LONGEST + b"\r\n", ""),
    ],
)
def test_a_line_that_is_too_long_is_told_with_its_field(message, refusal):
    entity = mime.parse(message)
    if not refusal:
        mime.require_short_lines(entity)
        return
    with pytest.raises(mime.MalformedMessage) as raised:
        mime.require_short_lines(entity)
    assert str(raised.value) == f"{refusal} allowed are 998 (RFC 5322 section 2.1.1)"


def test_short_lines_are_counted_in_linear_time():
    for body in (b"\r\n" * 5_000_000, LONGEST * 10_000 + b"\r\n", (b"a" * 76 + b"\r\n") * 200_000):
        with contextlib.suppress(mime.MalformedMessage):
            mime.require_short_lines(mime.parse(b"A: 1\r\n\r\n" + body))
