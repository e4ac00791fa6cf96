"""Packages are installed under a policy that forbids service starts, and the host's own policy survives."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
from salt.exceptions import CommandExecutionError

from _modules import chatmail_package


@pytest.fixture
def installed():
    return {"bash": "5.2"}


@pytest.fixture
def configure_loader_modules(installed, tmp_path, monkeypatch):
    monkeypatch.setattr(chatmail_package, "LOCKS", ())
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


# As dpkg locks, by fcntl(2).
HOLDER = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print(flush=True)
    sys.stdin.read()
"""


def test_whoever_holds_apts_lock_is_named(tmp_path):
    lock = tmp_path / "lock-frontend"
    assert chatmail_package.lock_holder([lock]) is None
    lock.touch()
    assert chatmail_package.lock_holder([lock]) is None
    argv = [sys.executable, "-c", HOLDER, lock]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        name = Path(f"/proc/{holder.pid}/comm").read_text().strip()
        assert chatmail_package.lock_holder([lock]) == f"{name} (process {holder.pid})"
        holder.communicate()
    assert chatmail_package.lock_holder([lock]) is None


def test_a_lock_that_is_in_nobodys_way_is_not_waited_for(tmp_path):
    lock = tmp_path / "lock-frontend"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert chatmail_package.lock_holder([lock]) is None


def test_an_installation_waits_for_apts_lock_and_says_so(monkeypatch, caplog, installed):
    holders = ["apt (process 7)", "apt (process 7)", None]
    monkeypatch.setattr(chatmail_package, "lock_holder", lambda: holders.pop(0))
    monkeypatch.setattr(chatmail_package, "LOCK_POLL_S", 0)
    chatmail_package.__salt__["pkg.install"] = lambda pkgs, **_: installed.update(dict.fromkeys(pkgs, "1"))
    chatmail_package.install(["postfix"])
    assert caplog.messages.count("waits for apt's lock, which apt (process 7) holds") == 2


def test_a_lock_that_nobody_gives_back_ends_the_installation(monkeypatch):
    monkeypatch.setattr(chatmail_package, "lock_holder", lambda: "apt (process 7)")
    monkeypatch.setattr(chatmail_package, "LOCK_S", -1)
    with pytest.raises(CommandExecutionError, match=r"apt \(process 7\) has held apt's lock"):
        chatmail_package.install(["postfix"])


def test_packages_get_the_versions_back_that_apt_has(installed):
    installed |= {"postfix": "2", "opendkim": "2"}
    called = []

    def run_all(argv, **_):
        called.append(argv)
        installed.update(one.split("=") for one in argv if one.startswith("postfix="))

    functions = chatmail_package.__salt__
    functions["cmd.run_all"] = run_all
    functions["cmd.retcode"] = lambda argv, **_: 0 if argv[-1] == "postfix=1" else 100
    assert chatmail_package.revert({"postfix": "1", "opendkim": "1"}) == ["opendkim"]
    assert called[0][-2:] == ["install", "postfix=1"]
    assert {"--allow-downgrades", "--no-remove"} <= set(called[0])
    assert not chatmail_package.POLICY.exists()
    assert chatmail_package.revert({}) == []
