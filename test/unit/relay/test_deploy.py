"""Records as the lab's name server takes them."""

from test.relay.deploy import quoted_strings


def test_a_long_text_becomes_strings_of_at_most_255_characters():
    text = "v=DKIM1;k=rsa;p=" + "A" * 400
    first, second = quoted_strings(text).split(" ")
    assert (len(first), len(second)) == (257, len(text) - 255 + 2)
    assert first.strip('"') + second.strip('"') == text


def test_a_short_text_is_one_string():
    assert quoted_strings("v=spf1 -all") == '"v=spf1 -all"'
