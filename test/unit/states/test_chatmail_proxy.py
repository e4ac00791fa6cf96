"""``chatmail_proxy.confirmed`` keeps rules that were confirmed, and no others."""

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_proxy as module
from _states import chatmail_proxy


class Host:
    """Stands for systemd: loads rules, and undoes them."""

    def __init__(self):
        self.calls = []
        self.reachable = True
        self.broken = False

    def begin_trial(self, seconds, rules):
        if self.broken:
            raise CommandExecutionError("`systemctl` failed: no kernel module")
        self.calls.append(f"load, undo after {seconds} s")

    def wait_until_confirmed(self, seconds):
        return self.reachable

    def end_trial(self, keep, rules):
        self.calls.append("keep" if keep else "undo")


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def configure_loader_modules(testmode, host):
    functions = {
        f"chatmail_proxy.{name}": getattr(host, name) for name in ("begin_trial", "wait_until_confirmed", "end_trial")
    }
    return {
        module: {},
        chatmail_proxy: {
            "__opts__": {"test": testmode},
            "__salt__": functions | {"chatmail_proxy.is_confirmed": module.is_confirmed},
        },
    }


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "proxy.nft"
    path.write_text("table inet chatmail_proxy\n")
    return str(path)


def test_new_rules_are_kept_once_the_host_was_reached(testmode, host, rules):
    ret = chatmail_proxy.confirmed(rules)
    assert ret["result"] is (None if testmode else True)
    assert list(ret["changes"]) == [rules]
    assert host.calls == ([] if testmode else ["load, undo after 30 s", "keep"])


def test_rules_are_undone_when_nobody_reaches_the_host(testmode, host, rules):
    host.reachable = False
    ret = chatmail_proxy.confirmed(rules)
    assert testmode or (ret["result"], ret["changes"], host.calls[-1]) == (False, {}, "undo")
    assert testmode or "apply again" in ret["comment"]


def test_rules_that_do_not_load_are_reported(testmode, host, rules):
    host.broken = True
    ret = chatmail_proxy.confirmed(rules)
    assert testmode or (ret["result"], ret["changes"], host.calls) == (False, {}, [])
    assert testmode or "no kernel module" in ret["comment"]


def test_confirmed_rules_are_left_alone_until_they_change(testmode, host, rules, tmp_path):
    (tmp_path / "proxy.confirmed.nft").write_text("table inet chatmail_proxy\n")
    ret = chatmail_proxy.confirmed(rules)
    assert (ret["result"], ret["changes"], host.calls) == (True, {}, [])
    (tmp_path / "proxy.nft").write_text("table inet other\n")
    assert chatmail_proxy.confirmed(rules)["changes"]


def test_a_bare_host_in_test_mode_is_told_of(testmode, tmp_path):
    ret = chatmail_proxy.confirmed(str(tmp_path / "missing.nft"))
    assert not testmode or ret["result"] is None
