"""Dovecot's states compute their difference once, tell it in test mode, and never claim what they did not do."""

import pytest
from salt.exceptions import CommandExecutionError

import chatmail_dovecot_plugin
from _states import chatmail_dovecot

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")

NONE = {"dovecot": "", "source": ""}
RIGHT = {"dovecot": "2.3.ABIv19(2.3.19.1)", "source": "cafe"}
OLD_ABI = {"dovecot": "2.3.ABIv18(2.3.18)", "source": "cafe"}
MINIMUM = 65535


class Relay:
    """Stands in for the execution modules: the state of a relay, and what was done to it."""

    def __init__(self):
        self.found, self.wanted, self.leftover = dict(NONE), dict(RIGHT), []
        self.packages = {"dovecot-core": "1"}
        self.build_error = ""
        self.outdated, self.restarts = [], 0
        self.limits = {"max_user_instances": 128, "max_user_watches": 192536}
        self.writable = True
        self.files = {}

    def plugin_wanted(self, source):
        if not self.wanted:
            raise CommandExecutionError("libdovecot.so.0: No such file or directory")
        return dict(self.wanted)

    def build_plugin(self, source):
        if self.build_error:
            raise CommandExecutionError(self.build_error)
        self.found = dict(self.wanted)

    def purge_build_packages(self):
        for pkg in self.leftover:
            del self.packages[pkg]
        self.leftover = []

    def restart(self, name):
        self.restarts += 1
        self.outdated = []

    def set_limit(self, limit, value):
        if self.writable:
            self.limits[limit] = value
        return self.writable

    def managed(self, name, contents, **_):
        changes = {} if self.files.get(name) == contents else {"diff": "New file"}
        if not chatmail_dovecot.__opts__["test"]:
            self.files[name] = contents
        return {"name": name, "changes": changes, "result": True, "comment": ""}


@pytest.fixture
def relay():
    return Relay()


@pytest.fixture
def configure_loader_modules(testmode, relay, monkeypatch, tmp_path):
    monkeypatch.setattr(chatmail_dovecot_plugin, "BUILD_LOCK", tmp_path / "lock")
    return {
        chatmail_dovecot: {
            "__opts__": {"test": testmode},
            "__states__": {"file.managed": relay.managed},
            "__salt__": {
                "chatmail_dovecot.plugin_found": lambda: dict(relay.found),
                "chatmail_dovecot.plugin_wanted": relay.plugin_wanted,
                "chatmail_dovecot.build_packages": lambda: list(relay.leftover),
                "chatmail_dovecot.build_plugin": relay.build_plugin,
                "chatmail_dovecot.purge_build_packages": relay.purge_build_packages,
                "chatmail_dovecot.outdated": lambda: list(relay.outdated),
                "chatmail_dovecot.inotify_limits": lambda: dict(relay.limits),
                "chatmail_dovecot.inotify_limit_is_writable": lambda limit: relay.writable,
                "chatmail_dovecot.set_inotify_limit": relay.set_limit,
                "pkg.list_pkgs": lambda use_context: dict(relay.packages),
                "service.restart": relay.restart,
                "service.status": lambda name: True,
                "file.file_exists": lambda path: path in relay.files,
                "file.read": lambda path: relay.files[path],
            },
        }
    }


def plugin():
    return chatmail_dovecot.notify_plugin_installed("p", "/src/plugin.c")


def limits():
    return chatmail_dovecot.inotify_limits("/etc/sysctl.d/60.conf", MINIMUM)


def test_a_plugin_that_fits_is_left_alone_in_both_modes(relay):
    relay.found = dict(RIGHT)
    ret = plugin()
    assert (ret["result"], ret["changes"]) == (True, {})


@pytest.mark.parametrize("found", [NONE, OLD_ABI], ids=["none", "other ABI"])
def test_a_plugin_that_is_missing_or_of_another_abi_is_built(relay, testmode, found):
    relay.found = dict(found)
    ret = plugin()
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"]["dovecot"] == {"old": found["dovecot"], "new": RIGHT["dovecot"]}
    assert relay.found == (found if testmode else RIGHT)


def test_on_a_bare_host_test_mode_says_what_would_be_and_an_apply_what_is_missing(relay, testmode):
    relay.wanted = None
    ret = plugin()
    if testmode:
        assert ret["result"] is None
        assert set(ret["changes"]) == {"dovecot", "source"}
    else:
        assert (ret["result"], ret["changes"]) == (False, {})
        assert "libdovecot.so.0" in ret["comment"]


def test_a_failed_build_says_why_and_what_to_do_and_claims_nothing(relay, testmode):
    relay.build_error = "gcc refused the plugin: unknown type name"
    ret = plugin()
    if testmode:
        assert ret["result"] is None
    else:
        assert (ret["result"], ret["changes"]) == (False, {})
        assert "unknown type name" in ret["comment"]
        assert "then apply again" in ret["comment"]


def test_a_dovecot_that_the_build_upgraded_is_among_the_changes(relay, testmode):
    def build(source):
        relay.packages["dovecot-core"] = "2"
        relay.wanted = {"dovecot": "2.3.ABIv19(2.3.19.2)", "source": "cafe"}
        relay.found = dict(relay.wanted)

    chatmail_dovecot.__salt__["chatmail_dovecot.build_plugin"] = build
    ret = plugin()
    if not testmode:
        assert ret["result"] is True
        assert ret["changes"]["dovecot-core"] == {"old": "1", "new": "2"}
        assert ret["changes"]["dovecot"]["new"] == "2.3.ABIv19(2.3.19.2)"
    else:
        assert relay.packages == {"dovecot-core": "1"}


def test_packages_of_a_killed_build_are_purged_without_a_new_build(relay, testmode):
    relay.found, relay.leftover = dict(RIGHT), ["gcc"]
    relay.packages["gcc"] = "12"
    relay.build_error = "must not be built"
    ret = plugin()
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"] == (
        {"build packages": {"old": ["gcc"], "new": []}} if testmode else {"gcc": {"old": "12", "new": ""}}
    )


def test_a_dovecot_younger_than_its_files_is_not_restarted(relay):
    ret = chatmail_dovecot.current("dovecot")
    assert (ret["result"], ret["changes"], relay.restarts) == (True, {}, 0)


def test_a_dovecot_older_than_its_files_is_restarted(relay, testmode):
    relay.outdated = ["/usr/sbin/dovecot"]
    ret = chatmail_dovecot.current("dovecot")
    assert ret["result"] is (None if testmode else True)
    assert "/usr/sbin/dovecot" in ret["changes"]["dovecot"]["old"]
    assert relay.restarts == (0 if testmode else 1)


def test_a_restart_that_failed_is_a_failure_with_a_next_step(relay, testmode):
    relay.outdated = ["/usr/sbin/dovecot"]
    chatmail_dovecot.__salt__["service.status"] = lambda name: False
    ret = chatmail_dovecot.current("dovecot")
    assert ret["result"] is (None if testmode else False)
    if not testmode:
        assert ret["changes"] == {}
        assert "journalctl -u dovecot" in ret["comment"]


def test_a_low_limit_is_raised_and_kept_and_a_high_one_left_alone(relay, testmode):
    ret = limits()
    assert ret["result"] is (None if testmode else True)
    assert ret["changes"]["fs.inotify.max_user_instances"] == {"old": 128, "new": MINIMUM}
    assert "fs.inotify.max_user_watches" not in ret["changes"]
    assert "warnings" not in ret
    if testmode:
        assert relay.limits["max_user_instances"] == 128
        assert relay.files == {}
    else:
        assert relay.limits == {"max_user_instances": MINIMUM, "max_user_watches": 192536}
        assert relay.files["/etc/sysctl.d/60.conf"].splitlines()[1:] == ["fs.inotify.max_user_instances = 65535"]


def test_raised_limits_are_no_change_the_second_time(relay):
    chatmail_dovecot.__opts__["test"], testmode = False, chatmail_dovecot.__opts__["test"]
    limits()
    chatmail_dovecot.__opts__["test"] = testmode
    ret = limits()
    assert (ret["result"], ret["changes"]) == (True, {})


def test_limits_that_are_high_enough_need_no_file(relay):
    relay.limits["max_user_instances"] = 1048576
    ret = limits()
    assert (ret["result"], ret["changes"], relay.files) == (True, {}, {})


@pytest.mark.parametrize("value", [128, None], ids=["read-only", "missing"])
def test_in_a_container_a_low_limit_is_a_warning_and_no_change(relay, value):
    relay.limits["max_user_instances"], relay.writable = value, False
    ret = limits()
    assert (ret["result"], ret["changes"], relay.files) == (True, {}, {})
    (warning,) = ret["warnings"]
    assert ("missing" if value is None else "is 128") in warning
    assert "at least 65535" in warning
    assert "sysctl -w fs.inotify.max_user_instances=65535" in warning
