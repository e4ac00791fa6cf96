"""All languages say the same, in their own forms; what is wrong with a file of texts is said with its name."""

import string
from pathlib import Path

import pytest
import yaml

import chatmail_texts
from tools import web

FOLDER = web.PAGES / "texts"
LANGUAGES = {path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yaml")}
SETTINGS = web.settings({"mail_domain": "chat.example.org"})


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def filled_in(language: str, **settings: object) -> dict:
    return chatmail_texts.filled_in(LANGUAGES[language], SETTINGS | settings, language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_the_same_texts_and_fills_in_the_same(language):
    texts, english = LANGUAGES[language], LANGUAGES["en"]
    assert list(texts) == list(english)
    for key, text in english.items():
        if isinstance(text, str):
            assert placeholders(texts[key]) == placeholders(text), key
            # What is strong or code is so in all of them.
            assert (texts[key].count("**"), texts[key].count("`")) == (text.count("**"), text.count("`")), key


@pytest.mark.parametrize(
    "language, days",
    [
        ("en", {1: "1 day", 2: "2 days"}),
        ("de", {1: "1 Tag", 20: "20 Tage"}),
        ("es", {1: "1 día", 7: "7 días"}),
        ("fr", {1: "1 jour", 2: "2 jours"}),
        ("ru", {1: "1 день", 3: "3 дня", 11: "11 дней", 14: "14 дней", 20: "20 дней", 21: "21 день", 112: "112 дней"}),
        ("ar", {1: "يوم واحد", 2: "يومان", 7: "7 أيام", 20: "20 يومًا", 100: "100 يوم", 103: "103 أيام"}),
    ],
)
def test_days_have_the_form_that_their_number_needs(language, days):
    said = {n: filled_in(language, delete_mails_after=n)["info_days_value"] for n in days}
    assert said == days


def test_numbers_have_the_decimal_sign_of_the_language():
    assert filled_in("en")["info_message_value"] == "31.5 MB"
    assert filled_in("de")["info_message_value"] == "31,5 MB"
    assert filled_in("en", max_message_size=40_000_000)["index_fact_file"].startswith("**30 MB**")


def test_a_range_of_lengths_is_told_where_there_is_one():
    assert "a name of 9 small letters" in filled_in("en")["info_log_in"]
    assert "a name of 9\u201312 small letters" in filled_in("en", username_max_length=12)["info_log_in"]


def test_a_name_keeps_its_direction_among_arabic_words():
    assert "\u2066_chat.test\u2069" in filled_in("ar", mail_domain="_chat.test")["description"]


BROKEN = {
    "yaml": ("de.yaml", "name: [", r"texts/de\.yaml: .*line 2"),
    "list": ("de.yaml", "- name", r"texts/de\.yaml has no texts"),
    "name": ("pt-br.yaml", "name: x", r"texts/pt-br\.yaml: its name is to be that of a language"),
    "unknown": ("de.yaml", "index_heading: Hallo {nobody}", r"texts/de\.yaml, index_heading: .*nobody"),
    "brace": ("de.yaml", "index_heading: 'Hallo {'", r"texts/de\.yaml, index_heading: "),
    "plural": ("de.yaml", "plural: 7", r"texts/de\.yaml: days, plural and decimal"),
    "forms": ("de.yaml", "plural: (", r"texts/de\.yaml: days, plural and decimal"),
}


@pytest.mark.parametrize("name, text, message", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named(tmp_path: Path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(chatmail_texts.SourceError, match=message):
        for language, texts in chatmail_texts.load([FOLDER, tmp_path]).items():
            chatmail_texts.filled_in(texts, SETTINGS, language)
