"""Packages are installed under a policy that forbids service starts, and the host's own policy survives."""

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_package


@pytest.fixture
def installed():
    return {"bash": "5.2"}


@pytest.fixture
def configure_loader_modules(installed, tmp_path, monkeypatch):
    monkeypatch.setattr(chatmail_package, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(chatmail_package, "POLICY_OF_HOST", tmp_path / "policy-rc.d.kept")
    return {chatmail_package: {"__salt__": {"pkg.list_pkgs": lambda: installed, "cmd.run_all": lambda *_, **__: {}}}}


def test_missing_names_what_is_not_installed():
    assert chatmail_package.missing(["postfix", "bash", "unbound"]) == ["postfix", "unbound"]


def test_install_forbids_service_starts_and_ends_the_ban(installed):
    seen = []

    def install(pkgs, **_):
        seen.append(chatmail_package.POLICY.read_text())
        assert chatmail_package.POLICY.stat().st_mode & 0o777 == 0o755
        installed.update(dict.fromkeys(pkgs, "1"))
        return {"postfix": {"old": "", "new": "1"}}

    chatmail_package.__salt__["pkg.install"] = install
    assert chatmail_package.install(["postfix"]) == {"postfix": {"old": "", "new": "1"}}
    assert "exit 101" in seen[0]
    assert not chatmail_package.POLICY.exists()


def test_a_failing_apt_ends_the_ban_and_brings_back_the_policy_of_the_host():
    chatmail_package.POLICY.write_text("#!/bin/sh\nexit 0\n")

    def install(**_):
        raise CommandExecutionError("no mirror")

    chatmail_package.__salt__["pkg.install"] = install
    with pytest.raises(CommandExecutionError, match="no mirror"):
        chatmail_package.install(["postfix"])
    assert chatmail_package.POLICY.read_text() == "#!/bin/sh\nexit 0\n"


def test_a_ban_left_by_a_killed_run_ends_with_the_next(installed):
    chatmail_package.POLICY.write_text(chatmail_package.POLICY_TEXT)
    chatmail_package.POLICY_OF_HOST.write_text("#!/bin/sh\nexit 0\n")
    chatmail_package.__salt__["pkg.install"] = lambda pkgs, **_: installed.update(dict.fromkeys(pkgs, "1"))
    chatmail_package.install(["postfix"])
    assert chatmail_package.POLICY.read_text() == "#!/bin/sh\nexit 0\n"


def test_success_that_apt_only_claims_is_an_error():
    chatmail_package.__salt__["pkg.install"] = lambda **_: {}
    with pytest.raises(CommandExecutionError, match="did not install postfix"):
        chatmail_package.install(["postfix"])
