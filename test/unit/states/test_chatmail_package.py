"""``chatmail_package.installed`` installs only what is missing, and says in test mode what it would do."""

import pytest
from salt.exceptions import CommandExecutionError

from _states import chatmail_package

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")


@pytest.fixture
def calls():
    return []


@pytest.fixture
def configure_loader_modules(testmode, calls):
    def install(pkgs):
        calls.append(pkgs)
        return {pkg: {"old": "", "new": "1.0"} for pkg in pkgs}

    return {
        chatmail_package: {
            "__opts__": {"test": testmode},
            "__salt__": {
                "chatmail_package.missing": lambda pkgs: [pkg for pkg in pkgs if pkg != "bash"],
                "chatmail_package.install": install,
            },
        }
    }


def test_nothing_to_do_is_true_in_both_modes(calls):
    ret = chatmail_package.installed("p", ["bash"])
    assert (ret["result"], ret["changes"], calls) == (True, {}, [])


def test_only_what_is_missing_is_installed(testmode, calls):
    ret = chatmail_package.installed("p", ["bash", "postfix"])
    assert list(ret["changes"]) == ["postfix"]
    assert ret["result"] is (None if testmode else True)
    assert calls == ([] if testmode else [["postfix"]])


def test_a_failing_apt_names_packages_and_the_next_step(testmode):
    def install(pkgs):
        raise CommandExecutionError("no mirror")

    chatmail_package.__salt__["chatmail_package.install"] = install
    ret = chatmail_package.installed("p", ["postfix"])
    if testmode:
        assert ret["result"] is None
    else:
        assert ret["result"] is False
        assert ret["changes"] == {}
        assert "postfix could not be installed: no mirror" in ret["comment"]
        assert "apt-get update" in ret["comment"]
