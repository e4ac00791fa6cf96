"""How the clients of `make relay` log in."""

from urllib.parse import parse_qs, urlsplit

from test.relay.chat import credentials, login_uri


def test_credentials_are_random_and_fit_a_relays_rules():
    made = {credentials("_one.test") for _ in range(50)}
    assert len(made) == 50
    for address, password in made:
        local_part, _, domain = address.partition("@")
        assert (len(local_part), domain) == (9, "_one.test")
        assert len(password) >= 9


def test_login_uri_names_servers_ports_and_security():
    uri = urlsplit(login_uri("a2b3c4d5e@_one.test", "p@ss w+rd&x", "_one.test"))
    assert (uri.scheme, uri.path) == ("dclogin", "a2b3c4d5e@_one.test")
    assert "p=p%40ss%20w%2Brd%26x&" in uri.query
    options = {key: value for key, (value,) in parse_qs(uri.query).items()}
    assert options["v"] == "1"
    assert (options["ih"], options["ip"], options["is"], options["ic"]) == ("_one.test", "993", "ssl", "3")
    assert (options["sh"], options["sp"], options["ss"], options["sc"]) == ("_one.test", "465", "ssl", "3")
