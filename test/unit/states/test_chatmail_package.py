"""``chatmail_package.installed`` installs only what is missing, and says in test mode what it would do."""

import pytest
from salt.exceptions import CommandExecutionError

from _states import chatmail_package

# Each test runs twice, as an apply and with test=True.
pytestmark = pytest.mark.usefixtures("testmode")

# Of a run with three components, of which a later one wants what an earlier one wants too.
LOWSTATE = [
    {"state": "chatmail_package", "fun": "installed", "name": "a", "pkgs": ["bash", "opendkim"]},
    {"state": "file", "fun": "managed", "name": "/etc/a"},
    {"state": "chatmail_package", "fun": "installed", "name": "b", "pkgs": ["coturn"]},
    {"state": "chatmail_package", "fun": "installed", "name": "c", "pkgs": ["opendkim", "nginx"]},
]


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
            "__context__": {},
            "__salt__": {
                "chatmail_package.missing": lambda pkgs: [pkg for pkg in pkgs if pkg != "bash"],
                "chatmail_package.install": install,
            },
        }
    }


@pytest.fixture(autouse=True)
def lowstate(monkeypatch):
    monkeypatch.setattr(chatmail_package, "__lowstate__", LOWSTATE, raising=False)


def test_nothing_to_do_is_true_in_both_modes(calls):
    ret = chatmail_package.installed("p", ["bash"])
    assert (ret["result"], ret["changes"], calls) == (True, {}, [])


def test_only_what_is_missing_is_installed(testmode, calls):
    ret = chatmail_package.installed("p", ["bash", "postfix"])
    assert list(ret["changes"]) == ["postfix"]
    assert ret["result"] is (None if testmode else True)
    assert calls == ([] if testmode else [["postfix", "opendkim", "coturn", "nginx"]])


def test_the_first_state_installs_for_all_and_each_tells_of_its_own(testmode, calls):
    states = {low["name"]: low["pkgs"] for low in LOWSTATE if low["state"] == "chatmail_package"}
    installed = set()
    chatmail_package.__salt__["chatmail_package.missing"] = lambda pkgs: [
        pkg for pkg in pkgs if pkg != "bash" and pkg not in installed
    ]

    def install(pkgs):
        calls.append(pkgs)
        installed.update(pkgs)
        return {pkg: {"old": "", "new": "1.0"} for pkg in [*pkgs, "a-dependency"]}

    chatmail_package.__salt__["chatmail_package.install"] = install
    changes = {name: list(chatmail_package.installed(name, pkgs)["changes"]) for name, pkgs in states.items()}
    if testmode:
        assert changes == {"a": ["opendkim"], "b": ["coturn"], "c": ["opendkim", "nginx"]}
        assert calls == []
    else:
        assert changes == {"a": ["opendkim", "a-dependency"], "b": ["coturn"], "c": ["nginx"]}
        assert calls == [["opendkim", "coturn", "nginx"]]


def test_before_the_records_are_found_nothing_is_installed_for_later(testmode, calls):
    ret = chatmail_package.installed("p", ["unbound"], with_later=False)
    assert list(ret["changes"]) == ["unbound"]
    chatmail_package.installed("a", ["opendkim"])
    assert calls == ([] if testmode else [["unbound"], ["opendkim", "coturn", "nginx"]])


def test_where_that_fails_the_state_whose_package_it_is_says_so(testmode, calls):
    def install(pkgs):
        calls.append(pkgs)
        if "coturn" in pkgs:
            raise CommandExecutionError("no coturn")
        return {pkg: {"old": "", "new": "1.0"} for pkg in pkgs}

    chatmail_package.__salt__["chatmail_package.install"] = install
    assert chatmail_package.installed("a", ["opendkim"])["result"] is (None if testmode else True)
    failed = chatmail_package.installed("b", ["coturn"])
    assert chatmail_package.installed("c", ["nginx"])["result"] is (None if testmode else True)
    if not testmode:
        assert failed["result"] is False
        assert "coturn could not be installed: no coturn" in failed["comment"]
        assert calls == [["opendkim", "coturn", "nginx"], ["opendkim"], ["coturn"], ["nginx"]]


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
