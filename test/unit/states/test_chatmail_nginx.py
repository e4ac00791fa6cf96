"""``chatmail_nginx.valid`` looks, changes nothing, and repeats what nginx complains of."""

import pytest

from _states import chatmail_nginx

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")
COMPLAINT = 'nginx: [emerg] unknown directive "lissten" in /etc/nginx/chatmail.d/shop.conf:2'


@pytest.fixture
def found():
    return {"installed": True, "answer": {"retcode": 0, "stderr": ""}}


@pytest.fixture
def configure_loader_modules(testmode, found):
    functions = {
        "cmd.has_exec": lambda _: found["installed"],
        "cmd.run_all": lambda argv, **_: found["answer"] if argv[0] == "nginx" else None,
    }
    return {chatmail_nginx: {"__opts__": {"test": testmode}, "__salt__": functions}}


def test_a_good_configuration_is_left_alone():
    ret = chatmail_nginx.valid("/etc/nginx/nginx.conf")
    assert (ret["result"], ret["changes"]) == (True, {})


def test_a_complaint_is_repeated(found):
    found["answer"] = {"retcode": 1, "stderr": f"{COMPLAINT}\n"}
    ret = chatmail_nginx.valid("/etc/nginx/nginx.conf")
    assert (ret["result"], ret["changes"]) == (False, {})
    assert COMPLAINT in ret["comment"]


def test_a_bare_host_can_be_asked_what_would_change(found, testmode):
    found["installed"] = False
    assert chatmail_nginx.valid("/etc/nginx/nginx.conf")["result"] is (None if testmode else True)
