"""``chatmail_preflight.passed`` gives every reason at once, adopts a host once, and touches nothing in test mode."""

import pytest

from _states import chatmail_preflight

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")

PORTS = {"25/tcp": ["postfix"]}


@pytest.fixture
def host():
    return {"problems": [], "foreign": {}, "adopted": False, "calls": [], "in_the_way": []}


@pytest.fixture
def configure_loader_modules(testmode, host):
    def adopt(directories):
        host["calls"].append(directories)
        if "/full" in directories:
            raise OSError("No space left on device")
        host["adopted"] = True
        return {directory: f"/var/backups/chatmail/now{directory}" for directory in directories}

    return {
        chatmail_preflight: {
            "__opts__": {"test": testmode},
            "__salt__": {
                "chatmail_preflight.problems": lambda ports, takeover, addresses, relay: host["problems"],
                "chatmail_preflight.shortages": lambda mailboxes_dir: host["short"],
                "chatmail_mailboxes.problems": lambda mail_domain, mailboxes_dir: host["orphaned"],
                "chatmail_preflight.foreign_configurations": lambda: host["foreign"],
                "chatmail_preflight.adopted": lambda: host["adopted"],
                "chatmail_preflight.adopt": adopt,
                "chatmail_preflight.in_the_way": lambda ports: host["in_the_way"],
                "chatmail_preflight.free": lambda ports: host["calls"].append(ports) or ["apache2.service"],
            },
        }
    }


def test_an_unfit_host_is_refused_with_every_reason(host):
    host["problems"] = ["one.", "two."]
    ret = chatmail_preflight.passed("preflight", PORTS)
    assert (ret["result"], ret["changes"], host["calls"]) == (False, {}, [])
    assert ret["comment"].splitlines()[1:] == ["- one.", "- two."]


def test_a_fit_host_passes_and_nothing_is_changed_by_looking(host):
    ret = chatmail_preflight.passed("preflight", PORTS)
    assert (ret["result"], ret["changes"], host["calls"]) == (True, {}, [])


def test_a_host_is_adopted_once(host, testmode):
    ret = chatmail_preflight.adopted("preflight-adopted")
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"] == {"adopted": {"old": False, "new": True}}
    assert host["calls"] == ([] if testmode else [[]])
    host["adopted"] = True
    ret = chatmail_preflight.adopted("preflight-adopted")
    assert (ret["result"], ret["changes"]) == (True, {})


def test_what_is_kept_aside_is_named(host, testmode):
    host["foreign"] = {"/etc/postfix": ["/etc/postfix/main.cf"]}
    ret = chatmail_preflight.adopted("preflight-adopted")
    assert ret["result"] is (None if testmode else True)
    assert "/etc/postfix" in ret["changes"]
    assert host["calls"] == ([] if testmode else [["/etc/postfix"]])
    assert testmode or "/var/backups/chatmail/now/etc/postfix" in ret["comment"]


def test_a_copy_that_fails_is_told(host, testmode):
    host["foreign"] = {"/full": ["/full/file"]}
    ret = chatmail_preflight.adopted("preflight-adopted")
    assert ret["result"] is (None if testmode else False)
    assert testmode or ("No space left" in ret["comment"] and ret["changes"] == {})
    assert not host["adopted"]


def test_without_its_execution_module_the_state_says_why_it_is_missing():
    assert chatmail_preflight.__virtual__() is True
    del chatmail_preflight.__salt__["chatmail_preflight.problems"]
    available, reason = chatmail_preflight.__virtual__()
    assert available is False
    assert "chatmail_preflight" in reason


def test_mailboxes_that_would_be_orphaned_are_a_reason_too(host):
    host["problems"] = ["port 25/tcp is taken."]
    host["short"] = ["the host has 458 MB of memory."]
    host["orphaned"] = ["there are 2 mailboxes of old.test."]
    mailboxes = {"mail_domain": "new.test", "mailboxes_dir": "/mail"}
    ret = chatmail_preflight.passed("preflight", PORTS, mailboxes=mailboxes)
    assert ret["result"] is False
    assert (
        "- port 25/tcp is taken.\n- the host has 458 MB of memory.\n- there are 2 mailboxes of old.test."
        in ret["comment"]
    )
    assert "nothing on it was changed" in ret["comment"]


APACHE = {"port": "80/tcp", "process": "apache2", "pid": 7, "unit": "apache2.service", "remedy": "stop it"}


def test_ports_that_are_free_change_nothing(host):
    ret = chatmail_preflight.ports_free("preflight-ports-free", PORTS, takeover=True)
    assert (ret["result"], ret["changes"], host["calls"]) == (True, {}, [])


def test_who_holds_a_port_is_ended_where_that_is_allowed(host, testmode):
    host["in_the_way"] = [APACHE]
    ret = chatmail_preflight.ports_free("preflight-ports-free", PORTS, takeover=True)
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"] == {"apache2.service": {"old": "listens on 80/tcp", "new": "stopped and disabled"}}
    assert host["calls"] == ([] if testmode else [PORTS])


def test_who_came_since_the_preflight_is_named_and_left_alone(host):
    host["in_the_way"] = [APACHE]
    ret = chatmail_preflight.ports_free("preflight-ports-free", PORTS)
    assert (ret["result"], ret["changes"], host["calls"]) == (False, {}, [])
    assert ret["comment"] == "port 80/tcp is taken by apache2; stop it."
