"""``chatmail_dns.published``: publishes where the key is, says what to do where it is not."""

import pytest
from salt.exceptions import CommandExecutionError

from _states import chatmail_dns

RIGHT = {"status": "ok", "wanted": "10 a.", "found": "10 a."}
MISSING = {"status": "missing", "wanted": "10 a.", "found": "nothing", "do": "Enter it.", "enter": "a. IN MX 10 a."}
CHANGES = {"a. MX": {"old": "nothing", "new": "10 a."}}

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")


@pytest.fixture
def dns():
    """What the execution module is asked and what it answers."""
    return {"line": MISSING, "recommended": {}, "published": [], "error": None, "ipv4": ["192.0.2.7"]}


@pytest.fixture
def configure_loader_modules(testmode, dns):
    def check(settings, initial):
        success = dns["line"] is RIGHT
        lines = {"required": {"a. MX": dns["line"]}, "recommended": dns["recommended"]}
        unpublished = [name for name, line in (lines["required"] | lines["recommended"]).items() if line is MISSING]
        found = {"success": success, "unpublished": unpublished, **lines}
        return found | {"result": "Right." if success else "1 is not right.", "report": f"Report of {lines}"}

    def publish(settings, initial, seconds):
        found = check(settings, initial)
        if not (settings["dns_update_server"] and settings["dns_update_key_file"] and found["unpublished"]):
            return {"published": {}, "check": found}
        dns["published"].append(settings)
        if dns["error"]:
            raise CommandExecutionError(dns["error"])
        dns["line"], dns["recommended"] = RIGHT, {}
        return {"published": CHANGES, "check": check(settings, initial)}

    functions = {
        "chatmail_dns.check": check,
        "chatmail_dns.publish": publish,
        "chatmail_dns.facts": lambda settings: {"ipv4": dns["ipv4"], "ipv6": []},
    }
    return {chatmail_dns: {"__opts__": {"test": testmode}, "__salt__": functions}}


@pytest.fixture
def settings():
    return {
        "mail_domain_bare": "a.test",
        "dns_update_server": "192.0.2.53",
        "dns_update_key_file": "/etc/chatmail/tsig.key",
    }


def test_right_records_are_left_alone(dns, settings):
    dns["line"] = RIGHT
    ret = chatmail_dns.published("a", settings)
    assert (ret["result"], ret["changes"], dns["published"]) == (True, {}, [])
    assert ret["comment"] == "Right."


def test_recommended_records_are_named_but_no_failure(dns, settings):
    dns["line"], dns["recommended"] = RIGHT, {"a. TXT": MISSING}
    ret = chatmail_dns.published("a", settings | {"dns_update_server": None})
    assert ret["result"] is True
    assert "! TXT   a." in ret["comment"]
    # Those that are right are not listed.
    assert "✓" not in ret["comment"]
    assert ret["warnings"] == ["Recommended DNS records are missing or wrong: a. TXT. ./relay dns shows them."]
    # At the end of an apply, once.
    assert "warnings" not in chatmail_dns.published("a", settings | {"dns_update_server": None}, initial=True)


@pytest.mark.parametrize(
    ("reached", "words"),
    [
        ((), ["behind address translation", "public_addresses", "the A (or AAAA) record of a.test"]),
        (["9.9.9.10"], ["ssh reached it at 9.9.9.10", "public_addresses: ['9.9.9.10']", "a.test. 3600 IN A 9.9.9.10"]),
    ],
)
def test_behind_address_translation_setting_record_and_the_address_of_ssh_are_named(dns, settings, reached, words):
    dns["ipv4"] = None
    ret = chatmail_dns.published("a", settings | {"dns_update_server": None}, reached=reached)
    assert ret["result"] is False
    assert [word for word in words if word not in ret["comment"]] == []
    dns["ipv4"] = ["192.0.2.7"]
    ret = chatmail_dns.published("a", settings | {"dns_update_server": None}, reached=reached)
    assert "public_addresses" not in ret["comment"]


@pytest.mark.parametrize("required", [True, False], ids=["required", "recommended"])
def test_missing_records_are_published(testmode, dns, settings, required):
    if not required:
        dns["line"], dns["recommended"] = RIGHT, {"a. TXT": MISSING}
    ret = chatmail_dns.published("a", settings)
    assert ret["result"] is (None if testmode else True)
    assert list(ret["changes"]) == (["a. MX"] if required or not testmode else ["a. TXT"])
    assert dns["published"] == ([] if testmode else [settings])


@pytest.mark.parametrize("missing", ["dns_update_key_file", "dns_update_server"])
def test_without_key_or_server_the_records_to_enter_are_told(dns, settings, missing):
    ret = chatmail_dns.published("a", settings | {missing: None})
    assert (ret["result"], ret["changes"], dns["published"]) == (False, {}, [])
    assert "a. IN MX 10 a." in ret["comment"]
    assert "Then apply again" in ret["comment"]


def test_what_no_publication_can_mend_is_told(dns, settings):
    dns["line"] = MISSING | {"status": "unknown"}
    ret = chatmail_dns.published("a", settings)
    assert (ret["result"], dns["published"]) == (False, [])


def test_a_refused_update_fails_with_the_servers_reason(testmode, dns, settings):
    dns["error"] = "REFUSED"
    ret = chatmail_dns.published("a", settings)
    if testmode:
        assert ret["result"] is None
    else:
        assert (ret["result"], ret["changes"]) == (False, {})
        assert "REFUSED" in ret["comment"]


def test_before_the_library_is_there_a_test_run_says_so_and_an_apply_does_not_go_on(testmode, settings, monkeypatch):
    monkeypatch.setattr(chatmail_dns, "__salt__", {})
    ret = chatmail_dns.published("a", settings)
    assert ret["result"] is (None if testmode else False)
    assert "python3-dnspython" in ret["comment"]
