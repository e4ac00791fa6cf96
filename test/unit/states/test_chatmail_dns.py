"""``chatmail_dns.published``: publishes where the key is, says what to do where it is not."""

import pytest
from salt.exceptions import CommandExecutionError

from _states import chatmail_dns

RIGHT = {"status": "ok", "wanted": "10 a.", "found": "10 a."}
MISSING = {"status": "missing", "wanted": "10 a.", "found": "nothing", "do": "Enter\na. IN MX 10 a."}
CHANGES = {"a. MX": {"old": "nothing", "new": "10 a."}}

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")


@pytest.fixture
def dns():
    """What the execution module is asked and what it answers."""
    return {"line": MISSING, "recommended": {}, "published": [], "error": None}


@pytest.fixture
def configure_loader_modules(testmode, dns):
    def check(settings, start, initial):
        success = dns["line"] is RIGHT
        lines = {"required": {"a. MX": dns["line"]}, "recommended": dns["recommended"]}
        return {"success": success, "result": "Right." if success else "1 is not right.", **lines}

    def publish(settings, start, seconds):
        dns["published"].append(settings)
        if dns["error"]:
            raise CommandExecutionError(dns["error"])
        return {"success": True, "result": "Published.", "published": CHANGES}

    functions = {"chatmail_dns.check": check, "chatmail_dns.publish": publish}
    return {chatmail_dns: {"__opts__": {"test": testmode}, "__salt__": functions}}


@pytest.fixture
def settings(tmp_path):
    key = tmp_path / "key"
    key.touch()
    return {"dns_update_server": "192.0.2.53", "dns_update_key_file": str(key)}


def test_right_records_are_left_alone(dns, settings):
    dns["line"] = RIGHT
    ret = chatmail_dns.published("a", settings)
    assert (ret["result"], ret["changes"], dns["published"]) == (True, {}, [])


def test_recommended_records_are_named_but_no_failure(dns, settings):
    dns["line"], dns["recommended"] = RIGHT, {"a. TXT": MISSING}
    ret = chatmail_dns.published("a", settings)
    assert ret["result"] is True
    assert "a. TXT: missing" in ret["comment"]


def test_missing_records_are_published_where_the_key_is(testmode, dns, settings):
    ret = chatmail_dns.published("a", settings)
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"] == CHANGES
    assert dns["published"] == ([] if testmode else [settings])


@pytest.mark.parametrize(
    ("missing", "next_step"),
    [("dns_update_key_file", "chatmail_dns.publish"), ("dns_update_server", "enter them")],
    ids=["key elsewhere", "no server"],
)
def test_without_key_or_server_the_records_to_enter_are_told(dns, settings, missing, next_step):
    value = "/nonexistent/key" if missing == "dns_update_key_file" else None
    ret = chatmail_dns.published("a", settings | {missing: value})
    assert (ret["result"], ret["changes"], dns["published"]) == (False, {}, [])
    assert "a. IN MX 10 a." in ret["comment"]
    assert next_step in ret["comment"]


def test_a_refused_update_fails_with_the_servers_reason(testmode, dns, settings):
    dns["error"] = "REFUSED"
    ret = chatmail_dns.published("a", settings)
    if testmode:
        assert ret["result"] is None
    else:
        assert (ret["result"], ret["changes"]) == (False, {})
        assert "REFUSED" in ret["comment"]
