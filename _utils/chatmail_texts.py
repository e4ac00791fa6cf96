"""
The words of the web pages: ``texts/LANGUAGE.yaml`` beside the pages' sources, a file for each language.

A text may name any setting (``{mail_domain}``), and what is made of the settings for people who read this language:

``delete_mails_after``, ``delete_large_after``, ``delete_inactive_users_after``
    With the word for days, in the form that this number needs (``days``, ``plural``).
``message_mb``, ``file_mb``
    The largest message and the largest file in it, in megabytes, with the language's decimal sign (``decimal``).
``username_length``
    One number or a range.
``notification_host``
    Who is told that a device is to be woken.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import jinja2
import salt.utils.yaml

DEFAULT_LANGUAGE = "en"
_DAYS = ("delete_mails_after", "delete_large_after", "delete_inactive_users_after")
# Left-to-right isolate, pop directional isolate (Unicode UAX 9): `_chat.example.org` begins with a neutral character.
_ISOLATED = "\u2066{}\u2069"


class SourceError(ValueError):
    """A source of the pages is wrong; the message names it, and the line or the text in it."""


def load(folders: Sequence[Path]) -> dict[str, dict]:
    """
    Return the texts of each language (RFC 5646 section 2.2.1, the file's name) by their keys, sorted by language.

    folders
        Directories of ``LANGUAGE.yaml``. A text of a later one takes the place of an earlier one's, and what a
        language does not have stays English.

    Raises SourceError where a file is not YAML or no mapping.
    """
    found: dict[str, dict] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.yaml"))):
        if not re.fullmatch("[a-z]{2,3}", path.stem):
            raise SourceError(f"texts/{path.name}: its name is to be that of a language, as in de.yaml")
        try:
            texts = salt.utils.yaml.safe_load(path.read_text(encoding="utf-8"))
        except salt.utils.yaml.YAMLError as error:
            raise SourceError(f"texts/{path.name}: {' '.join(str(error).split())}") from error
        if not isinstance(texts, dict):
            raise SourceError(f"texts/{path.name} has no texts: compare it with the formula's texts/en.yaml")
        found[path.stem] = found.get(path.stem, {}) | texts
    return {language: found.get(DEFAULT_LANGUAGE, {}) | found[language] for language in sorted(found)}


def filled_in(texts: Mapping, settings: Mapping, language: str) -> dict:
    """
    Return the texts of a language with the settings in them; what is no text stays as it is.

    Raises SourceError where a text names what there is not.
    """
    try:
        plural = jinja2.Environment(autoescape=True).compile_expression(texts["plural"], undefined_to_none=False)
        values = {
            **settings,
            **{name: texts["days"][plural(n=settings[name])].format(n=settings[name]) for name in _DAYS},
            "message_mb": _megabytes(settings["max_message_size"], texts["decimal"]),
            # Base64 makes four octets of three (RFC 2045 section 6.8).
            "file_mb": _megabytes(settings["max_message_size"] * 3 // 4, texts["decimal"]),
            "username_length": _range(settings["username_min_length"], settings["username_max_length"]),
            "notification_host": urlsplit(settings["notification_url"]).hostname,
        }
    except (jinja2.TemplateError, KeyError, IndexError, TypeError) as error:
        raise SourceError(f"texts/{language}.yaml: days, plural and decimal do not fit together: {error}") from error
    if texts["direction"] == "rtl":
        values["mail_domain"] = _ISOLATED.format(settings["mail_domain"])
    filled = dict(texts)
    for key, text in texts.items():
        if isinstance(text, str):
            try:
                filled[key] = text.format_map(values)
            except (KeyError, ValueError, IndexError, AttributeError) as error:
                raise SourceError(f"texts/{language}.yaml, {key}: there is no value for {error}") from error
    return filled


def _megabytes(octets: int, decimal: str) -> str:
    return f"{octets / 1e6:.1f}".removesuffix(".0").replace(".", decimal)


def _range(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least}\u2013{most}"
