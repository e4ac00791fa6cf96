"""Units and packages are as they were before an upgrade, in an order in which each step can be done."""

import pytest
from salt.exceptions import CommandExecutionError

import chatmail_kept
from _modules import chatmail_upgrade


class Systemd:
    """Units with the state of their file and whether they run; ``done`` has what was asked of systemctl."""

    def __init__(self):
        self.units = {"postfix.service": ["enabled", "active"], "systemd-journald.service": ["static", "active"]}
        self.done = []

    def states(self, names):
        assert names, "systemctl show would tell of systemd itself"
        return {
            name: {
                "LoadState": "loaded" if name in self.units else "not-found",
                **dict(zip(("UnitFileState", "ActiveState"), self.units.get(name, ["", "inactive"]), strict=True)),
            }
            for name in names
        }

    def run(self, argv, **_):
        self.done.append(" ".join(argv[2:]))


@pytest.fixture
def systemd(monkeypatch):
    systemd = Systemd()
    monkeypatch.setattr(chatmail_upgrade, "unit_states", systemd.states)
    return systemd


@pytest.fixture
def packages():
    return {"postfix": "1", "rspamd": "1"}


@pytest.fixture
def reverted():
    return []


@pytest.fixture
def configure_loader_modules(systemd, packages, reverted, tmp_path, monkeypatch):
    relay = tmp_path / "etc/relay.json"
    relay.parent.mkdir()
    relay.write_text('{"version": "0.1.0"}')
    monkeypatch.setattr(chatmail_upgrade, "RELAY", relay)
    monkeypatch.setattr(chatmail_kept, "ROOT", tmp_path / "kept")
    monkeypatch.setattr(chatmail_kept, "PLACES", (str(relay.parent),))
    functions = {
        "cmd.run_all": systemd.run,
        "pkg.list_pkgs": lambda: dict(packages),
        "chatmail_package.revert": lambda versions: reverted.append(versions) or [],
    }
    return {chatmail_upgrade: {"__salt__": functions}}


def begin():
    return chatmail_upgrade.begin([str(chatmail_upgrade.RELAY)], ["postfix", "added"], [])


def test_without_an_upgrade_there_is_nothing_to_put_back():
    with pytest.raises(CommandExecutionError, match="nothing is kept"):
        chatmail_upgrade.undo()


def test_what_ran_runs_again_and_what_is_new_does_not(systemd):
    begin()
    systemd.units |= {"added.service": ["enabled", "active"], "postfix.service": ["masked", "failed"]}
    chatmail_upgrade.RELAY.write_text('{"version": "0.2.0"}')
    done = chatmail_upgrade.undo()
    assert (done["version"], done["paths"]) == ("0.1.0", [str(chatmail_upgrade.RELAY)])
    assert systemd.done == [
        "stop added.service",
        "disable added.service",
        "unmask postfix.service",
        "daemon-reload",
        "enable postfix.service",
        "try-restart systemd-journald.service",
        "reset-failed postfix.service",
        "start postfix.service",
    ]
    assert chatmail_upgrade.listed() == []


def test_units_that_were_enabled_after_the_upgrade_stay_so(systemd):
    begin()
    chatmail_upgrade.RELAY.write_text('{"version": "0.2.0"}')
    chatmail_upgrade.finish()
    systemd.units["added.service"] = ["enabled", "active"]
    chatmail_upgrade.undo()
    assert systemd.done == [
        "stop added.service postfix.service",
        "daemon-reload",
        "try-restart systemd-journald.service",
        "reset-failed added.service postfix.service",
        "start added.service postfix.service",
    ]


def test_what_was_stopped_runs_again_when_not_all_can_be_put_back(systemd, monkeypatch):
    begin()
    chatmail_upgrade.RELAY.write_text('{"version": "0.2.0"}')

    def no_room(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chatmail_kept, "put_back", no_room)
    with pytest.raises(CommandExecutionError, match="No space left"):
        chatmail_upgrade.undo()
    assert systemd.done[0] == "stop postfix.service"
    assert systemd.done[-1] == "start postfix.service"
    assert len(chatmail_upgrade.listed()) == 1


def test_what_was_stopped_runs_again_after_one_that_was_killed(systemd, monkeypatch):
    begin()
    chatmail_upgrade.RELAY.write_text('{"version": "0.2.0"}')
    chatmail_upgrade.finish()
    run = systemd.run

    def killed(argv, **_):
        run(argv)
        systemd.units["postfix.service"][1] = "inactive"
        raise KeyboardInterrupt

    functions = chatmail_upgrade.__salt__
    monkeypatch.setitem(functions, "cmd.run_all", killed)
    with pytest.raises(KeyboardInterrupt):
        chatmail_upgrade.undo()
    assert systemd.done == ["stop postfix.service"]
    monkeypatch.setitem(functions, "cmd.run_all", run)
    chatmail_upgrade.undo()
    assert systemd.done[-1] == "start postfix.service"


def test_units_that_only_the_upgrade_after_a_killed_one_brings_go_with_it(systemd):
    begin()
    chatmail_upgrade.begin([], ["postfix", "later"], [])
    systemd.units["later.service"] = ["enabled", "active"]
    chatmail_upgrade.undo()
    assert "disable later.service" in systemd.done


def test_nothing_is_restarted_where_nothing_has_changed(systemd):
    begin()
    chatmail_upgrade.undo()
    assert "stop postfix.service" not in systemd.done
    assert "start postfix.service" in systemd.done


def test_packages_that_debian_has_upgraded_since_stay(systemd, packages, reverted):
    begin()
    del packages["rspamd"]
    (row,) = chatmail_upgrade.finish()
    assert (row["version"], row["finished"], row["files"]) == ("0.1.0", True, 0)
    packages["postfix"] = "1+security"
    chatmail_upgrade.undo()
    assert reverted == [{"rspamd": "1"}]


def test_packages_of_an_upgrade_that_was_killed_go_back(systemd, packages, reverted):
    begin()
    packages["postfix"] = "2"
    chatmail_upgrade.undo()
    assert reverted == [{"postfix": "1"}]
