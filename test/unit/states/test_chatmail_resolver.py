"""A host without working name servers asks the fallback, and unbound is asked before the host depends on it."""

import pytest

from _states import chatmail_resolver

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")
NAMES = ["www.example.org.", "debian.org."]


@pytest.fixture
def host():
    """What the execution module answers; ``fallen_back`` is what it was asked to do."""
    return {"works": False, "named": False, "fall_back": True, "serves": False, "fallen_back": []}


@pytest.fixture
def configure_loader_modules(testmode, host):
    def fall_back(server, names):
        host["fallen_back"].append(server)
        if isinstance(host["fall_back"], OSError):
            raise host["fall_back"]
        return host["fall_back"]

    return {
        chatmail_resolver: {
            "__opts__": {"test": testmode},
            "__salt__": {
                "chatmail_resolver.works": lambda names: host["works"],
                "chatmail_resolver.named": lambda server: host["named"],
                "chatmail_resolver.fall_back": fall_back,
                "chatmail_resolver.serves": lambda server, names: host["serves"],
            },
        }
    }


@pytest.mark.parametrize("state", ["works", "named"])
def test_name_servers_that_answer_or_are_the_fallback_already_are_left_alone(host, state):
    host[state] = True
    ret = chatmail_resolver.working("r", NAMES, "9.9.9.9")
    assert (ret["result"], ret["changes"], host["fallen_back"]) == (True, {}, [])


def test_without_an_answer_the_fallback_is_asked(testmode, host):
    ret = chatmail_resolver.working("r", NAMES, "9.9.9.9")
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"]["/etc/resolv.conf"]["new"] == "nameserver 9.9.9.9"
    assert host["fallen_back"] == ([] if testmode else ["9.9.9.9"])


@pytest.mark.parametrize("outcome, said", [(False, "`fallback_resolver`"), (OSError("read-only"), "read-only")])
def test_where_nothing_answers_it_says_what_to_do(testmode, host, outcome, said):
    host["fall_back"] = outcome
    ret = chatmail_resolver.working("r", NAMES, "9.9.9.9")
    assert ret["result"] is (None if testmode else False)
    if not testmode:
        assert ret["changes"] == {}
        assert said in ret["comment"]


@pytest.mark.parametrize("answers", [True, False])
def test_a_name_server_that_does_not_answer_is_a_failure(testmode, host, answers):
    host["serves"] = answers
    ret = chatmail_resolver.serving("127.0.0.1", NAMES)
    assert ret["result"] is (testmode or answers)
    assert ret["changes"] == {}
