"""``chatmail_units.loaded`` reloads systemd for what it has not read, and for what the states it watches change."""

import pytest

from _states import chatmail_units

pytestmark = pytest.mark.usefixtures("testmode")


@pytest.fixture
def systemd():
    """What systemd has not read, and how often it was reloaded."""
    return {"unread": [], "reloads": 0}


@pytest.fixture
def configure_loader_modules(testmode, systemd):
    def reload():
        systemd["reloads"] += 1

    return {
        chatmail_units: {
            "__opts__": {"test": testmode},
            "__salt__": {
                "chatmail_units.unread": lambda services: systemd["unread"],
                "service.systemctl_reload": reload,
            },
        }
    }


def test_nothing_happens_where_systemd_has_read_all(systemd):
    ret = chatmail_units.loaded("drop-ins", ["dovecot"])
    assert (ret["result"], ret["changes"], systemd["reloads"]) == (True, {}, 0)


def test_what_an_interrupted_apply_left_is_read(testmode, systemd):
    systemd["unread"] = ["/etc/systemd/system/dovecot.service.d/10-chatmail.conf"]
    ret = chatmail_units.loaded("drop-ins", ["dovecot"])
    assert ret["result"] is (None if testmode else True)
    assert "10-chatmail.conf" in ret["changes"]["systemd"]["old"]
    assert systemd["reloads"] == (not testmode)


def test_a_change_of_a_watched_state_is_read(testmode, systemd):
    ret = chatmail_units.mod_watch("drop-ins", ["dovecot"], sfun="loaded")
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"]
    assert systemd["reloads"] == (not testmode)
