"""What nginx.conf makes of what browsers ask for; PCRE and Python's re agree on what is used here."""

import re

import pytest

from test.salt.minion import CHECKOUT

NGINX_CONF = CHECKOUT / "chatmail/nginx/files/etc/nginx/nginx.conf.j2"
NAMED = {"mail_domain": "chat.example.org"}


@pytest.fixture(scope="module")
def rules(renderer) -> list[tuple[re.Pattern, str]]:
    """The map from Accept-Language to a language of the pages."""
    low = {state["__id__"]: state for state in renderer.low(NAMED, "chatmail.nginx")}
    text = renderer.template(NGINX_CONF.read_text(), **low["nginx-conf"]["context"])
    block = re.search(r"(?s)map \$http_accept_language \$language \{\n *default en;\n(.*?)\n    \}", text)[1]
    return [
        (re.compile(pattern, re.IGNORECASE), language) for pattern, language in re.findall(r'"~\*(.*)" (\w+);', block)
    ]


def chosen(rules: list[tuple[re.Pattern, str]], header: str) -> str:
    """Return what nginx's map does: the value of the first pattern that is found."""
    return next((language for pattern, language in rules if pattern.search(header)), "en")


def test_nginx_knows_the_languages_that_the_pages_have(rules):
    texts = (CHECKOUT / "chatmail/website/files/src/texts").glob("*.yaml")
    assert [language for _, language in rules] == sorted(path.stem for path in texts)


def test_nginx_knows_the_languages_that_an_operator_adds(renderer):
    # The formula's own directory stands for an operator's, which may have any name below etc/roots.
    pillar = NAMED | {"www_folder": "salt://chatmail/website/files"}
    low = {state["__id__"]: state for state in renderer.low(pillar, "chatmail.nginx")}
    assert low["nginx-conf"]["context"]["languages"] == ["ar", "de", "en", "es", "fr", "ru"]


@pytest.mark.parametrize(
    "header, language",
    [
        ("", "en"),
        ("*", "en"),
        ("de", "de"),
        ("DE-at", "de"),
        ("de-DE,de;q=0.9,en;q=0.8", "de"),
        ("pl, uk;q=0.9, ru;q=0.8, en;q=0.7", "ru"),
        ("zh-Hant-TW, fr-CH;q=0.5", "fr"),
        ("ar-EG,ar;q=0.9,en-US;q=0.8", "ar"),
        # Not compared, but obeyed where one is zero (RFC 9110 section 12.4.2).
        ("en;q=0.1, de", "en"),
        ("de;q=0, es;q=0.3", "es"),
        ("de;q=0.000,fr", "fr"),
        ("de;q=0.001,fr", "de"),
        # Names that only begin alike, and what is no list of languages.
        ("deu, esp, fra-CA", "en"),
        ("ende", "en"),
        ("../../etc/passwd", "en"),
        (";;,,,=de", "en"),
        (",,, ,ru", "ru"),
    ],
)
def test_the_first_language_that_there_is_is_chosen(rules, header, language):
    assert chosen(rules, header) == language


def test_a_long_header_is_read_in_linear_time(rules):
    # What a connection would be closed for is 16 times as long as what nginx takes (large_client_header_buffers, 8k).
    for header in ("x" * 131072, "de;q=0," * 18000, ", " * 65536, "de;" * 43690, "d-e,f" * 26214):
        assert chosen(rules, header) in ("en", "de")
