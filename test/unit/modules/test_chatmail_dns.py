"""What operators ask of the DNS, and who publishes."""

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_dns
from test.support.zones import CERTIFICATE, IPV4, IPV6, KEYS, SETTINGS

PUBLISHABLE = SETTINGS | {"dns_update_server": "192.0.2.53", "dns_update_key_file": "/nowhere/key"}
FACTS = {"ipv4": [IPV4], "ipv6": [IPV6], "dkim": KEYS, "certificate": CERTIFICATE}


@pytest.fixture
def configure_loader_modules():
    return {chatmail_dns: {}}


def test_a_relay_without_a_name_has_nothing_to_publish():
    settings = SETTINGS | {"ipv4_relay": "192.0.2.7"}
    assert chatmail_dns.records(settings) == []
    assert chatmail_dns.zone(settings).startswith("; The mail domain is the address 192.0.2.7")
    for function in (chatmail_dns.check, chatmail_dns.publish):
        assert function(settings)["success"]


@pytest.fixture
def survey(monkeypatch):
    """What the name servers say in place of real ones; the records that are to be published."""
    unpublished = []

    class Survey:
        def __init__(self, wanted, start):
            pass

        def unpublished(self):
            return unpublished

        def as_result(self, publishable):
            return {"success": True, "result": "All right.", "report": "", "unpublished": unpublished}

    monkeypatch.setattr(chatmail_dns, "Survey", Survey)
    return unpublished


def test_a_host_without_the_key_has_its_records_published_by_the_controller(monkeypatch):
    asked = []

    def ask(request, seconds):
        asked.append(request)
        return {"success": True, "published": {"a. MX": {}}}

    monkeypatch.setattr(chatmail_dns, "ask", ask)
    assert chatmail_dns.publish(PUBLISHABLE, FACTS)["published"] == {"a. MX": {}}
    assert asked == [{"service": "publish", "facts": FACTS, "initial": False}]


def test_without_key_and_controller_nothing_is_published(survey):
    survey.append("a. MX")
    with pytest.raises(CommandExecutionError, match=r"is not on this machine, and no salt-ssh .* is connected"):
        chatmail_dns.publish(PUBLISHABLE, FACTS)


def test_without_key_and_controller_a_right_zone_is_right(survey):
    done = chatmail_dns.publish(PUBLISHABLE, FACTS)
    assert (done["success"], done["published"], done["check"]["unpublished"]) == (True, {}, [])
