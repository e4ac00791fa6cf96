"""The plugin's build, its marks and its leftovers; what runs is compared with what is installed; inotify limits."""

import os
import subprocess
import sys

import pytest
from salt.exceptions import CommandExecutionError

import chatmail_dovecot_plugin as plugin_module
from _modules import chatmail_dovecot

ABI = "2.3.ABIv19(2.3.19.1)"
CODE = b"int plugin;\n"
SIMULATION = """\
Inst dovecot-core [1:2.3.19.1-1] (1:2.3.19.1-2 Debian-Security:12/stable-security [amd64])
Inst gcc-12 (12.2.0-14 Debian:12/stable [amd64])
Inst dovecot-dev (1:2.3.19.1-2 Debian-Security:12/stable-security [amd64])
Conf gcc-12 (12.2.0-14 Debian:12/stable [amd64])
"""


class Packages:
    """Stands in for apt: what is installed."""

    def __init__(self):
        self.installed = {"dovecot-core", "libc6-dev"}
        self.fails = None

    def install(self, pkgs):
        self.installed |= {"gcc-12", "dovecot-dev"}
        if self.fails:
            raise CommandExecutionError(self.fails)

    def purge(self, pkgs):
        self.installed -= set(pkgs)


@pytest.fixture
def packages():
    return Packages()


@pytest.fixture
def sandbox(monkeypatch):
    """Stands in for gcc and imap: the plugin that gcc makes, and what each of the two says."""
    answers = {"plugin": None, "gcc": (0, b""), "imap": b"* PREAUTH\r\n3 OK Logout\r\n", "dovecot.conf": ""}

    def run(argv, stdin):
        if argv[0] == "sh":
            digest = next(arg for arg in argv if arg.startswith("-DSOURCE_DIGEST=")).split('"')[1]
            code, words = answers["gcc"]
            plugin = answers["plugin"] or f"\x7fELF\0{ABI}\0imap_instant source {digest}\0".encode()
            return subprocess.CompletedProcess(argv, code, plugin, words)
        answers["dovecot.conf"] = chatmail_dovecot.Path(argv[-1]).read_text()
        return subprocess.CompletedProcess(argv, 0, answers["imap"], b"Fatal: Couldn't load required plugin")

    monkeypatch.setattr(plugin_module, "sandboxed", run)
    return answers


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "plugin.c"
    path.write_bytes(CODE)
    path.with_name(plugin_module.TRIAL_CONF).write_text("mail_plugins = imap_instant\n")
    return path


@pytest.fixture
def configure_loader_modules(tmp_path, monkeypatch, packages):
    library, plugin = tmp_path / "libdovecot.so.0", tmp_path / "modules" / "lib20_imap_instant_plugin.so"
    plugin.parent.mkdir()
    library.write_bytes(b"\x7fELF\0 9.9.ABI(no) \0" + ABI.encode() + b"\0")
    monkeypatch.setattr(plugin_module, "LIBRARY", library)
    monkeypatch.setattr(plugin_module, "PLUGIN", plugin)
    monkeypatch.setattr(plugin_module, "BUILD_NOTE", tmp_path / "var" / "build-packages")
    monkeypatch.setattr(plugin_module, "BUILD_LOCK", tmp_path / "lock")
    monkeypatch.setattr(chatmail_dovecot, "PID_FILE", tmp_path / "master.pid")
    monkeypatch.setattr(chatmail_dovecot, "READ_AT_START", [library, plugin, tmp_path / "absent"])
    monkeypatch.setattr(chatmail_dovecot, "INOTIFY", tmp_path)
    return {
        chatmail_dovecot: {
            "__salt__": {
                "pkg.refresh_db": lambda **_: {},
                "cmd.run_stdout": lambda argv, python_shell: SIMULATION,
                "chatmail_package.install": packages.install,
                "chatmail_package.purge": packages.purge,
                "chatmail_package.missing": lambda pkgs: [pkg for pkg in pkgs if pkg not in packages.installed],
            }
        }
    }


def test_without_a_plugin_both_marks_are_empty():
    assert chatmail_dovecot.plugin_found() == {"dovecot": "", "source": ""}


def test_a_built_plugin_is_the_wanted_one_and_the_compiler_is_gone(sandbox, source, packages):
    chatmail_dovecot.build_plugin(str(source))
    assert chatmail_dovecot.plugin_found() == chatmail_dovecot.plugin_wanted(str(source))
    assert chatmail_dovecot.plugin_found()["dovecot"] == ABI
    assert packages.installed == {"dovecot-core", "libc6-dev"}
    assert chatmail_dovecot.build_packages() == []
    assert [path.name for path in plugin_module.PLUGIN.parent.iterdir()] == [plugin_module.PLUGIN.name]
    assert plugin_module.PLUGIN.stat().st_mode & 0o777 == 0o644


def test_the_plugin_is_tried_by_dovecot_before_it_is_installed(sandbox, source):
    sandbox["imap"] = b""
    with pytest.raises(CommandExecutionError, match="Couldn't load required plugin"):
        chatmail_dovecot.build_plugin(str(source))
    assert "mail_plugins = imap_instant" in sandbox["dovecot.conf"]
    assert not plugin_module.PLUGIN.exists()


def test_another_source_and_another_compiler_call_are_another_plugin(sandbox, source, monkeypatch):
    chatmail_dovecot.build_plugin(str(source))
    source.write_bytes(CODE + b"\n")
    assert chatmail_dovecot.plugin_found() != chatmail_dovecot.plugin_wanted(str(source))
    source.write_bytes(CODE)
    assert chatmail_dovecot.plugin_found() == chatmail_dovecot.plugin_wanted(str(source))
    monkeypatch.setattr(plugin_module, "COMPILER", ["gcc", "-O3"])
    assert chatmail_dovecot.plugin_found() != chatmail_dovecot.plugin_wanted(str(source))


def test_another_abi_of_dovecot_is_another_plugin(sandbox, source):
    chatmail_dovecot.build_plugin(str(source))
    plugin_module.LIBRARY.write_bytes(b"2.3.ABIv20(2.3.20)\0")
    assert chatmail_dovecot.plugin_wanted(str(source))["dovecot"] == "2.3.ABIv20(2.3.20)"
    assert chatmail_dovecot.plugin_found()["dovecot"] == ABI


def test_the_abi_of_2_4_has_no_brackets_and_is_compared_as_a_whole(sandbox, source):
    plugin_module.LIBRARY.write_bytes(b"\x7fELF\0002.4.ABIv1\0")
    sandbox["plugin"] = b"\x7fELF\0002.4.ABIv12\0"
    with pytest.raises(CommandExecutionError, match=r"was not built for 2\.4\.ABIv1:"):
        chatmail_dovecot.build_plugin(str(source))
    sandbox["plugin"] = b"\x7fELF\0002.4.ABIv1\0"
    chatmail_dovecot.build_plugin(str(source))
    assert chatmail_dovecot.plugin_found()["dovecot"] == "2.4.ABIv1"


@pytest.mark.parametrize("fault", ["gcc", "abi", "apt"])
def test_a_failed_build_leaves_the_old_plugin_and_no_compiler(sandbox, source, packages, fault):
    plugin_module.PLUGIN.write_bytes(b"the old one")
    if fault == "gcc":
        sandbox["gcc"] = (1, b"error: unknown type name")
    elif fault == "abi":
        sandbox["plugin"] = b"2.3.ABIv18(2.3.18)\0"
    else:
        packages.fails = "no mirror"
    words = {"gcc": "unknown type name", "abi": "was not built for 2.3.ABIv19", "apt": "no mirror"}
    with pytest.raises(CommandExecutionError, match=words[fault]):
        chatmail_dovecot.build_plugin(str(source))
    assert plugin_module.PLUGIN.read_bytes() == b"the old one"
    assert packages.installed == {"dovecot-core", "libc6-dev"}
    assert chatmail_dovecot.build_packages() == []


@pytest.fixture
def killed(sandbox, source, packages):
    """A build of which nothing ran after its packages were installed, not even what always runs."""
    purge = chatmail_dovecot.__salt__["chatmail_package.purge"]
    chatmail_dovecot.__salt__["chatmail_package.purge"] = lambda pkgs: sys.exit("killed")
    with pytest.raises(SystemExit):
        chatmail_dovecot.build_plugin(str(source))
    chatmail_dovecot.__salt__["chatmail_package.purge"] = purge


def test_a_killed_build_is_known_and_its_packages_are_purged(killed, packages):
    assert set(chatmail_dovecot.build_packages()) == {"gcc-12", "dovecot-dev"}
    chatmail_dovecot.purge_build_packages()
    assert packages.installed == {"dovecot-core", "libc6-dev"}
    assert chatmail_dovecot.build_packages() == []


def test_packages_that_stay_in_spite_of_the_purge_are_named(killed):
    chatmail_dovecot.__salt__["chatmail_package.purge"] = lambda pkgs: {}
    with pytest.raises(CommandExecutionError, match="did not purge dovecot-dev gcc-12"):
        chatmail_dovecot.purge_build_packages()
    assert set(chatmail_dovecot.build_packages()) == {"gcc-12", "dovecot-dev"}


@pytest.mark.parametrize("missing", ["LIBRARY", "source"])
def test_what_is_missing_for_a_build_is_named(source, missing):
    path = source if missing == "source" else plugin_module.LIBRARY
    path.unlink()
    with pytest.raises(CommandExecutionError, match=f"{path}: No such file"):
        chatmail_dovecot.plugin_wanted(str(source))


def test_a_library_without_abi_is_not_debians_dovecot(source):
    plugin_module.LIBRARY.write_bytes(b"\x7fELF")
    with pytest.raises(CommandExecutionError, match="names no ABI"):
        chatmail_dovecot.plugin_wanted(str(source))


def test_the_sandbox_has_no_user_and_no_network_and_ends():
    assert {"--property=DynamicUser=yes", "--property=PrivateNetwork=yes"} <= set(plugin_module.SANDBOX)
    assert any(option.startswith("--property=RuntimeMaxSec=") for option in plugin_module.SANDBOX)


def test_a_dovecot_that_does_not_run_is_not_outdated():
    assert chatmail_dovecot.outdated() == []


def test_what_changed_after_the_start_is_outdated():
    chatmail_dovecot.PID_FILE.write_text("1")
    started = chatmail_dovecot.PID_FILE.stat().st_mtime
    os.utime(chatmail_dovecot.PID_FILE, (started + 60, started + 60))
    assert chatmail_dovecot.outdated() == []
    os.utime(chatmail_dovecot.PID_FILE, (started - 60, started - 60))
    assert chatmail_dovecot.outdated() == [str(plugin_module.LIBRARY)]


def test_limits_are_read_and_set(tmp_path):
    (tmp_path / "max_user_instances").write_text("128\n")
    assert chatmail_dovecot.inotify_limits() == {"max_user_instances": 128, "max_user_watches": None}
    assert chatmail_dovecot.inotify_limit_is_writable("max_user_instances")
    assert chatmail_dovecot.set_inotify_limit("max_user_instances", 65535)
    assert chatmail_dovecot.inotify_limits()["max_user_instances"] == 65535


def test_a_limit_that_the_kernel_does_not_take_is_not_set(tmp_path):
    (tmp_path / "max_user_instances").mkdir()  # Not to be written, for root neither.
    assert not chatmail_dovecot.set_inotify_limit("max_user_instances", 65535)
    assert not chatmail_dovecot.inotify_limit_is_writable("max_user_watches")
