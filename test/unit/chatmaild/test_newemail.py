"""New addresses by HTTP: the service over its own socket."""

import http.client
import json
import re
import socket
from urllib.parse import unquote

import pytest

from chatmaild import newemail
from chatmaild.config import read_config

MODULE = "chatmaild.newemail"
DOMAIN = "chat.example.org"


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket, as nginx speaks it."""

    def __init__(self, path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@pytest.fixture
def ask(start_daemon, write_config):
    """Start the service with settings; returns what asks it, a connection for each request."""

    def start(**settings):
        daemon = start_daemon(MODULE, write_config(**settings))

        def request(method: str, target: str = "/new"):
            connection = Connection(daemon.socket_path)
            connection.request(method, target)
            response = connection.getresponse()
            body = response.read().decode()
            connection.close()
            return response, body

        return request

    return start


def test_post_answers_with_a_new_address_each_time(ask):
    request = ask()
    answers = [request("POST") for _ in range(2)]
    for response, body in answers:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        assert json.loads(body).keys() == {"email", "password"}
        assert re.fullmatch(rf"[a-z0-9]{{9}}@{DOMAIN}", json.loads(body)["email"])
        assert re.fullmatch(r"[!-~]{12}", json.loads(body)["password"])
    first, second = (json.loads(body) for _response, body in answers)
    assert first["email"] != second["email"]
    assert first["password"] != second["password"]


def test_lengths_follow_the_settings(ask):
    _response, body = ask(username_min_length=3, username_max_length=20, password_min_length=30)("POST")
    credentials = json.loads(body)
    assert len(credentials["email"].partition("@")[0]) == 20
    assert len(credentials["password"]) == 33


def test_a_browser_is_sent_to_the_app(ask):
    response, body = ask()("GET")
    assert (response.status, body) == (301, "")
    assert response.headers["Location"] == f"dcaccount:https://{DOMAIN}/new"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_with_a_self_signed_certificate_there_is_a_link_that_accepts_it(ask, method):
    _response, body = ask(mail_domain="_chat.test")(method)
    credentials = json.loads(body)
    link = re.fullmatch(r"dclogin:([^?]+)\?p=([^&]+)&v=1&ic=3", credentials["dclogin_url"])
    assert link[1] == credentials["email"]
    assert unquote(link[2]) == credentials["password"]


def test_other_methods_are_refused(ask):
    response, _body = ask()("PUT")
    assert response.status == 405
    assert response.headers["Allow"] == "GET, POST"


def test_a_web_page_with_a_self_signed_certificate_gets_a_link_and_its_code(ask):
    request = ask(mail_domain="192.0.2.7")
    response, link = request("GET", "/account-link")
    assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
    assert re.fullmatch(r"dclogin:[a-z0-9]{9}@\[192\.0\.2\.7\]\?p=.+&v=1&ih=192\.0\.2\.7&sh=192\.0\.2\.7&ic=3", link)
    response, image = request("GET", f"/account-qr?{link}")
    assert (response.status, response.headers["Content-Type"]) == (200, "image/svg+xml")
    assert image == newemail.qr_code(link)


@pytest.mark.parametrize(
    "text",
    [
        *("", "https://example.com/", "dclogin:" + "x" * 900, "dclogin:abcdefghi@_chat.test"),
        "dclogin:abcdefghi@_chat.test?p=" + "x" * 900 + "&v=1&ic=3",
        "dclogin:abcdefghi@other.test?p=abcdefghijkl&v=1&ic=3",
        "dclogin:abcdefghi@_chat.test?p=abcdefghijkl&v=1&ic=3&x=" + "x" * 900,
        "dclogin:abcdefgh-@_chat.test?p=abcdefghijkl&v=1&ic=3",
    ],
)
def test_codes_are_made_for_links_alone(ask, text):
    response, _body = ask(mail_domain="_chat.test")("GET", f"/account-qr?{text}")
    assert response.status == 404


@pytest.mark.parametrize("domain", ["_chat.test", "192.0.2.7"])
@pytest.mark.parametrize("invite_only", [True, False])
def test_each_link_of_the_web_page_can_have_a_code(write_config, domain, invite_only):
    config = read_config(write_config(mail_domain=domain, invite_only=invite_only), newemail.Settings)
    token = "abcdefgh0123" if invite_only else ""
    for _ in range(100):
        link = newemail.new_credentials(config, token)["dclogin_url"]
        assert newemail.link_pattern(config).fullmatch(link)
        local_part = link.removeprefix("dclogin:").partition("@")[0]
        assert re.fullmatch("[a-z0-9]{9}", local_part)  # which doveauth creates and Postfix delivers to


def test_an_invite_begins_the_password(ask):
    request = ask(invite_only="true")
    _response, body = request("POST", "/new?invite=abcdefgh0123")
    assert re.fullmatch(r"abcdefgh0123[!-~]{12}", json.loads(body)["password"])
    response, _body = request("GET", "/new?invite=abcdefgh0123")
    assert response.headers["Location"] == f"dcaccount:https://{DOMAIN}/new?invite=abcdefgh0123"


@pytest.mark.parametrize("query", ["", "?invite=", "?invite=short", "?invite=abcdefgh012%0a", "?x=abcdefgh0123"])
def test_without_an_invite_there_is_no_address_where_one_is_needed(ask, query):
    response, body = ask(invite_only="true")("POST", "/new" + query)
    assert response.status == 403
    assert "invite" in json.loads(body)["reason"]


@pytest.mark.parametrize(
    "domain, email, link",
    [
        ("_c.test", "a@_c.test", "dclogin:a@_c.test?p=p%40ss%20w%2Brd&v=1&ic=3"),
        ("192.0.2.7", "a@[192.0.2.7]", "dclogin:a@[192.0.2.7]?p=p%40ss%20w%2Brd&v=1&ih=192.0.2.7&sh=192.0.2.7&ic=3"),
    ],
)
def test_the_link_quotes_the_password(write_config, domain, email, link):
    assert (
        newemail.dclogin_url(read_config(write_config(mail_domain=domain), newemail.Settings), email, "p@ss w+rd")
        == link
    )


@pytest.mark.parametrize(
    "octets",
    [
        b"\0\xff\r\n\r\n",
        b"POST /new",
        b"POST /new HTTP/1.1\r\n\r\n",  # no Host
        b"POST /new HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /new HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n",
        b"POST /new HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
        b"POST /" + b"x" * 200_000,
        b"POST / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    ],
    ids=["octets", "half", "no-host", "length", "large", "chunk", "long-line", "many-fields"],
)
def test_bad_input_gets_an_error_and_the_next_client_is_served(start_daemon, write_config, octets):
    daemon = start_daemon(MODULE, write_config())
    with daemon.connect() as client:
        try:
            client.sendall(octets)
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        except OSError:  # what was not read is cut off
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:100]
    assert b" 200 " in daemon.ask(b"POST /new HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert daemon.stop() == []


def test_requests_may_follow_each_other_on_a_connection(start_daemon, write_config):
    connection = Connection(start_daemon(MODULE, write_config()).socket_path)
    for _ in range(3):
        connection.request("POST", "/new")
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    connection.close()


def test_bad_settings_are_named(run_service, write_config):
    result = run_service(MODULE, write_config(password_min_length="x"))
    assert result.returncode == 1
    assert "password_min_length is 'x'" in result.stderr
