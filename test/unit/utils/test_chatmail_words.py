"""Sizes, ages and messages of programs are short."""

import pytest

import chatmail_words

MIB = 1024**2


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 K"), (3 * MIB, "3.0 M"), (5 * 1024**4, "5.0 T")]
)
def test_sizes_are_short(number, text):
    assert chatmail_words.size_text(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (300, "5 min"), (7300, "2 h"), (3 * chatmail_words.DAY_S, "3 days")]
)
def test_ages_are_short(seconds, text):
    assert chatmail_words.age_text(seconds) == text


def test_a_message_of_many_lines_becomes_one_and_is_cut():
    assert chatmail_words.one_line("a\n  b") == "a b"
    assert chatmail_words.one_line("x" * 300) == "x" * 197 + "..."
