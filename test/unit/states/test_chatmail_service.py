"""Salt's own states are asked only where there is something to do, and see the unit as it is then."""

import pytest

from _states import chatmail_service

SERVES = {"load": "loaded", "active": "active", "file": "enabled"}
OFF = {"load": "loaded", "active": "inactive", "file": "disabled"}
ABSENT = {"load": "not-found", "active": "inactive", "file": ""}
MASKED = {"load": "masked", "active": "inactive", "file": "masked"}
STARTS = SERVES | {"active": "activating"}


@pytest.fixture
def units():
    return {"a.service": SERVES}


@pytest.fixture
def looks():
    return []


@pytest.fixture
def running():
    return {}


@pytest.fixture(autouse=True)
def apply(monkeypatch, running):
    """What Salt hands to each state of an apply."""
    lowstate = [{"state": "chatmail_service", "name": name} for name in ("a", "b", "c.timer")]
    monkeypatch.setattr(chatmail_service, "__lowstate__", [*lowstate, {"state": "file", "name": "/etc"}], raising=False)
    monkeypatch.setattr(chatmail_service, "__running__", running, raising=False)


@pytest.fixture
def configure_loader_modules(units, looks):
    def found(names):
        looks.append(names)
        return dict(units)

    def salts(function):
        return lambda name, **kwargs: {"name": name, "changes": {function: kwargs}, "result": True, "comment": ""}

    names = ("running", "dead", "enabled", "disabled", "masked", "mod_watch")
    return {
        chatmail_service: {
            "__salt__": {"chatmail_service.found": found},
            "__states__": {f"service.{name}": salts(name) for name in names},
            "__context__": {},
        }
    }


@pytest.mark.parametrize(
    ("promise", "arguments", "unit"),
    [
        ("running", {"enable": True, "unmask": True}, SERVES),
        ("running", {}, SERVES | {"file": "disabled"}),
        ("dead", {"enable": False}, OFF),
        ("dead", {"enable": False}, ABSENT),
        ("dead", {}, SERVES | {"active": "failed"}),
        ("enabled", {}, OFF | {"file": "enabled"}),
        ("disabled", {}, ABSENT),
        ("masked", {}, MASKED),
    ],
)
def test_what_is_right_is_left_alone(units, promise, arguments, unit):
    units["a.service"] = unit
    ret = getattr(chatmail_service, promise)("a", **arguments)
    assert (ret["result"], ret["changes"]) == (True, {})


@pytest.mark.parametrize(
    ("promise", "arguments", "unit"),
    [
        ("running", {"enable": True}, OFF),
        ("running", {"enable": True}, SERVES | {"file": "disabled"}),
        ("running", {"enable": True}, STARTS),
        ("running", {"unmask": True}, SERVES | {"file": "masked"}),
        ("running", {"enable": False}, SERVES),
        ("dead", {"enable": False}, SERVES),
        ("dead", {"enable": False}, OFF | {"file": "enabled"}),
        ("dead", {}, STARTS),
        ("enabled", {"unmask": True}, MASKED),
        ("disabled", {}, SERVES),
        ("masked", {}, OFF),
    ],
)
def test_what_is_not_is_left_to_salt_with_all_parameters(units, promise, arguments, unit):
    units["a.service"] = unit
    changes = getattr(chatmail_service, promise)("a", **arguments)["changes"]
    assert {key: value for key, value in changes[promise].items() if value is not None} == arguments


def test_a_unit_that_systemd_calls_otherwise_is_left_to_salt(units):
    units.clear()
    for promise in ("running", "dead", "enabled", "disabled", "masked"):
        assert getattr(chatmail_service, promise)("a")["changes"]


def test_all_units_are_looked_at_once_until_something_changes(units, looks, running):
    units["c.timer"] = units["b.service"] = SERVES
    for name in ("a", "b", "c.timer"):
        assert not chatmail_service.running(name)["changes"]
    assert looks == [["a.service", "b.service", "c.timer"]]
    running["file"] = {"changes": {"diff": "..."}, "result": True}
    units["b.service"] = OFF
    assert chatmail_service.running("b")["changes"]
    assert len(looks) == 2


def test_a_watched_change_restarts_as_with_salts_own():
    ret = chatmail_service.mod_watch("a", sfun="running", reload=True)
    assert ret["changes"] == {"mod_watch": {"sfun": "running", "reload": True}}
