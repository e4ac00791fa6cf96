"""What the relay's web server says and does not say, over the port that it shares with IMAP and SMTP."""

import http.client
import json
import time
import xml.etree.ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from test.relay.delivery import Relay, User
from test.support.mail_clients import unchecked_tls
from test.support.waiting import wait_until

# Each place, what it answers, and as what; where it is 404, whoever asks is told by a page.
PLACES = {
    "/": (200, "text/html; charset=utf-8"),
    "/info": (200, "text/html; charset=utf-8"),
    "/privacy": (200, "text/html; charset=utf-8"),
    "/policy": (200, "text/html; charset=utf-8"),
    "/main.css": (200, "text/css"),
    "/logo.svg": (200, "image/svg+xml"),
    "/account-qr?dclogin:abcdefghi@_one.test?p=abcdefghijkl&v=1&ic=3": (200, "image/svg+xml"),
    "/new": (200, "application/json"),
    "/cgi-bin/newemail.py": (200, "application/json"),
    "/robots.txt": (200, "text/plain; charset=utf-8"),
    "/.well-known/autoconfig/mail/config-v1.1.xml": (200, "text/xml; charset=utf-8"),
    "/mail/config-v1.1.xml": (200, "text/xml; charset=utf-8"),
    "/.well-known/mta-sts.txt": (200, "text/plain; charset=utf-8"),
    "/mxdeliv": (405, None),
    "/metrics": (404, "text/html; charset=utf-8"),
    "/account-link": (404, "text/html; charset=utf-8"),
    "/nothing": (404, "text/html; charset=utf-8"),
    "/.chatmail": (404, "text/html; charset=utf-8"),
}
SECURITY = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: str


def ask(relay: Relay, path: str, method: str = "GET", host: str = "", **headers: str) -> Answer:
    """Ask over HTTPS; ``headers`` have underscores for hyphens."""
    client = http.client.HTTPSConnection(relay.address, context=unchecked_tls(), timeout=20)
    fields = {"Host": host or relay.domain} | {name.replace("_", "-"): value for name, value in headers.items()}
    return _answer(client, method, path, fields)


def plain_http(relay: Relay, path: str) -> Answer:
    """Ask on port 80."""
    return _answer(http.client.HTTPConnection(relay.address, timeout=20), "GET", path, {"Host": relay.domain})


def _answer(client: http.client.HTTPConnection, method: str, path: str, fields: dict[str, str]) -> Answer:
    client.request(method, path, headers=fields)
    response = client.getresponse()
    answer = Answer(response.status, response.headers, response.read().decode())
    client.close()
    return answer


def eventually(status: int, what, seconds: float = 20) -> Answer:
    """Ask until the answer has that status: a client has only so many new addresses a second."""
    deadline = time.monotonic() + seconds
    while (answer := what()).status != status and time.monotonic() < deadline:
        time.sleep(0.5)
    return answer


@pytest.mark.parametrize("path", PLACES)
def test_each_place_answers_with_its_type_and_says_what_browsers_must_not_do(one, path):
    status, content_type = PLACES[path]
    answer = eventually(status, lambda: ask(one, path))
    assert (answer.status, answer.headers["Content-Type"]) == (status, content_type)
    assert {name: answer.headers.get_all(name) for name in SECURITY} == {n: [v] for n, v in SECURITY.items()}
    # Browsers that took this certificate by hand would find no way back when it changes.
    assert "Strict-Transport-Security" not in answer.headers
    assert answer.headers["Server"] == "nginx"
    assert status != 404 or "There is nothing here" in answer.body


def test_browsers_ask_whether_a_page_has_changed(one):
    for path in ("/info", "/main.css"):
        first = ask(one, path)
        assert first.headers["Cache-Control"] == "no-cache"
        assert ask(one, path, If_None_Match=first.headers["ETag"]).status == 304
    assert ask(one, "/").headers["Cache-Control"] == "no-cache"
    assert eventually(200, lambda: ask(one, "/new", "POST")).headers["Cache-Control"] == "no-store"


def test_pages_are_in_the_language_that_the_browser_asks_for(one):
    for path, status in (("/", 200), ("/info", 200), ("/privacy", 200), ("/policy", 200), ("/nothing", 404)):
        for asked, language in (
            ("de-AT,de;q=0.9,en;q=0.8", "de"),
            ("pl, AR-EG;q=0.9", "ar"),
            ("pl", "en"),
            ("en,de", "en"),
        ):
            answer = ask(one, path, Accept_Language=asked)
            assert answer.status == status
            assert f'<html lang="{language}" ' in answer.body
            assert answer.headers["Content-Language"] == language
            assert answer.headers.get_all("Vary") == ["Accept-Language"]
    # Who has chosen one is not asked again, and what is the same for all varies by nothing.
    chosen = ask(one, "/fr/info", Accept_Language="de")
    assert (chosen.headers["Content-Language"], '<html lang="fr" ' in chosen.body) == ("fr", True)
    style = ask(one, "/main.css", Accept_Language="de")
    assert (style.headers["Content-Language"], style.headers["Vary"]) == (None, None)
    # A client gets only so many new addresses a second.
    for path in ("/", "/ru/"):
        wait_until(lambda path=path: "dclogin:" in ask(one, path, Accept_Language="ru").body)


def test_an_app_that_asks_for_an_address_can_log_in_with_it(one):
    for path in ("/new", "/cgi-bin/newemail.py"):
        credentials = json.loads(eventually(200, lambda path=path: ask(one, path, "POST")).body)
        assert credentials["email"].endswith(f"@{one.domain}")
        User(one, credentials["email"], credentials["password"]).imap().close()


def test_who_asks_too_often_is_told_so_in_words_that_apps_show(one):
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: ask(one, "/new", "POST"), range(100)))
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert "Try again" in json.loads(refused[0].body)["reason"]
    assert refused[0].headers["Content-Type"] == "application/json"
    assert eventually(200, lambda: ask(one, "/new", "POST")).status == 200


def test_plain_http_leads_to_https(one):
    answer = plain_http(one, "/info?a=b")
    assert (answer.status, answer.headers["Location"]) == (301, f"https://{one.domain}/info?a=b")


def test_mail_clients_find_their_settings_in_the_order_to_try(one):
    text = ask(one, "/.well-known/autoconfig/mail/config-v1.1.xml").body
    assert ask(one, "/mail/config-v1.1.xml").body == text
    provider = xml.etree.ElementTree.fromstring(text).find("emailProvider")  # noqa: S314 - a file of ours
    assert provider.get("id") == provider.findtext("domain") == one.domain
    servers = [
        [server.tag, server.get("type"), *(child.text for child in server)]
        for server in provider
        if server.tag.endswith("Server")
    ]
    common = ("password-cleartext", "%EMAILADDRESS%")
    assert servers == [
        [f"{way}Server", kind, one.domain, port, security, *common]
        for way, kind, ports in (("incoming", "imap", ("993", "143")), ("outgoing", "smtp", ("465", "587")))
        for port, security in (*zip(ports, ("SSL", "STARTTLS"), strict=True), ("443", "SSL"))
    ]


def test_the_mta_sts_policy_is_under_its_own_name(one):
    answer = ask(one, "/.well-known/mta-sts.txt", host=f"mta-sts.{one.domain}")
    assert answer.body.startswith("version: STSv1\r\n")  # RFC 8461 section 3.2
    assert f"mx: {one.domain}\r\n" in answer.body


def test_crawlers_are_sent_away(one):
    assert ask(one, "/robots.txt").body == "User-agent: *\nDisallow: /\n"


@pytest.mark.parametrize(
    "path, length, refuses",
    [
        ("/new", 1025, "nginx"),
        ("/info", 1025, "nginx"),
        ("/mxdeliv", 31457280 + 1, "552 "),
    ],
)
def test_bodies_are_as_large_as_each_place_needs(one, path, length, refuses):
    """The length alone is sent: it is what nginx goes by."""
    answer = ask(one, path, "POST", Content_Length=str(length))
    assert answer.status == 413
    assert refuses in answer.body
