"""The syntax of tag lists."""

import pytest

from chatmaild.message.dkim import tags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"v=1; a=rsa-sha256", {"v": "1", "a": "rsa-sha256"}),
        (b" v = 1 ;\tp=a b\tc ; ", {"v": "1", "p": "a b\tc"}),
        (b"p=", {"p": ""}),
        (b"b=abc=;x_y2=~", {"b": "abc=", "x_y2": "~"}),
        (b"V=1;v=2", {"V": "1", "v": "2"}),
    ],
)
def test_tags_are_read(text, expected):
    assert tags.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"junk",
        b"v",
        b"=1",
        b"1v=1",
        b"v=1;;a=2",
        b";v=1",
        b"v=1;v=1",
        b"v=1; ;",
        b"v=\xe4",
        b"v=\x0b1",
        b"v\xa0=1",
        b"v-w=1",
    ],
)
def test_what_is_not_a_list_of_tags_is_invalid(text):
    with pytest.raises(tags.Invalid):
        tags.parse(text)


@pytest.mark.parametrize("text", ["", "+1", "-1", "1_0", " 1", "٣", "1" * 13, "1e3", "0x1"])
def test_what_is_not_a_number_of_so_many_digits_is_invalid(text):
    with pytest.raises(tags.Invalid):
        tags.number({"t": text}, "t", 12)


@pytest.mark.parametrize("text", ["a", "ab=c", "abcd=", "ab_-", "ab\x0bcd"])
def test_what_is_not_base64_is_invalid(text):
    with pytest.raises(tags.Invalid):
        tags.octets({"b": text}, "b")


def test_white_space_in_base64_means_nothing():
    assert tags.octets({"b": "YW Jj\tZA = ="}, "b") == b"abcd"
