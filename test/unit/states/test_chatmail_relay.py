"""``chatmail_relay.ready`` says how people come to a relay, and changes nothing."""

import pytest

from _states import chatmail_relay

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")

SETTINGS = {
    "mail_domain": "chat.example.org",
    "mail_domain_bare": "chat.example.org",
    "tls_mode": "acme",
    "www_folder": "",
    "invite_only": False,
    "disable_mail": False,
}


@pytest.fixture
def configure_loader_modules(testmode):
    # On a bare host in test mode, and where there are no pages, no module of the web site's is there.
    return {chatmail_relay: {"__opts__": {"test": testmode}, "__salt__": {}}}


def told(**settings):
    ret = chatmail_relay.ready("ready-told", SETTINGS | settings)
    assert (ret["result"], ret["changes"]) == (True, {})
    return ret["comment"]


def test_page_link_and_status_are_named():
    assert told().splitlines() == [
        "chat.example.org is ready.",
        "page     https://chat.example.org/",
        "address  DCACCOUNT:https://chat.example.org/new makes one, opened or scanned in Delta Chat",
        "status   ./relay status",
    ]


@pytest.mark.parametrize(
    ("settings", "there", "absent"),
    [
        pytest.param(
            {"tls_mode": "self"}, "https://chat.example.org/", "DCACCOUNT:", id="each visitor has another link"
        ),
        pytest.param({"invite_only": True}, "./relay invite", "DCACCOUNT:", id="invited people alone"),
        pytest.param({"www_folder": "disabled"}, "DCACCOUNT:https://chat.example.org/new", "page", id="no page"),
        pytest.param({"disable_mail": True}, "disable_mail", "is ready", id="no mail"),
    ],
)
def test_nothing_is_offered_that_is_not_there(settings, there, absent):
    text = told(**settings)
    assert there in text
    assert absent not in text
