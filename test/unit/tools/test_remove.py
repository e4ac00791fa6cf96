"""What a host has of a relay is told before it is deleted, and only the domain deletes it; scripts run in the lab."""

import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from tools.host import StepFailed
from tools.remove import remove

LINES = [
    "domain chat.test",
    "resolver 9.9.9.10",
    "path /etc/chatmail/doveauth.toml",
    "path /etc/nginx/nginx.conf",
    "unit doveauth.service",
    "path /etc/systemd/system/doveauth.service",
    "data /home/vmail/mail/chat.test",
    "data /home/vmail",
    "data /etc/dkimkeys",
    "path /etc/chatmail",
    "path /etc/nginx",
    "own /etc/nginx/chatmail.d/shop.conf",
    "user vmail",
    "package nginx",
    "package nginx",
]


class FakeHost:
    """A host that answers with its inventory, and remembers what was done to it."""

    name, address = "relay", "192.0.2.7"

    def __init__(self, lines: list[str]) -> None:
        self.done: list[tuple[str, ...]] = []
        self.busy = ""
        self._lines = lines

    def lines(self, name: str) -> list[str]:
        assert name == "inventory"
        return self._lines

    def run(self, *call: str) -> str:
        if call == ("../apply_running",):
            return self.busy
        self.done.append(call)
        return ""


@pytest.fixture
def removing(monkeypatch):
    """Start a removal: what the host has, what the operator types; returns the host, and what runs it."""

    def start(lines: list[str], typed: str = "") -> tuple[FakeHost, remove.Remove]:
        host = FakeHost(lines)
        monkeypatch.setattr(remove, "client", lambda *_: None)
        monkeypatch.setattr(remove, "Host", lambda *_: host)
        return host, remove.Remove(Path("etc"), "relay", Console(width=100), lambda _: typed)

    return start


def test_a_dry_run_tells_all_and_changes_nothing(removing, capsys):
    host, removal = removing(LINES)
    removal.run(dry_run=True)
    said = capsys.readouterr().out
    assert host.done == []
    for word in ("chat.test", "relay (192.0.2.7)", "/home/vmail", "nginx", "doveauth.service", "shop.conf"):
        assert word in said


def test_a_host_does_not_command_the_terminal(removing, capsys):
    _, removal = removing([*LINES, "path /etc/\x1b[2J"])
    removal.run(dry_run=True)
    said = capsys.readouterr().out
    assert "[2J" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("typed", ["", "yes", "relay", "chat.tes", "CHAT.TEST"])
def test_what_is_not_the_domain_deletes_nothing(removing, typed):
    host, removal = removing(LINES, typed)
    with pytest.raises(StepFailed, match="nothing was changed"):
        removal.run(dry_run=False)
    assert host.done == []


def test_with_the_domain_all_goes_and_what_a_further_run_needs_goes_last(removing):
    host, removal = removing(LINES, "chat.test\n")
    removal.run(dry_run=False)
    steps = [call[0] for call in host.done]
    assert steps == ["stop", "purge", "delete", "forget-users", "delete"]
    assert host.done[0][1] == "9.9.9.10"
    assert "doveauth.service" in host.done[0]
    assert host.done[1] == ("purge", "nginx")
    assert {"/home/vmail", "/etc/dkimkeys", "/etc/nginx"} <= set(host.done[2])
    assert host.done[-1] == ("delete", "/etc/chatmail")


def test_nothing_is_deleted_under_an_apply(removing):
    host, removal = removing(LINES, "chat.test")
    host.busy = "busy 812 10:00:00"
    with pytest.raises(StepFailed, match="An apply is at work"):
        removal.run(dry_run=False)
    assert host.done == []


def test_where_the_first_apply_was_stopped_the_host_is_named(removing):
    host, removal = removing(["path /etc/unbound/unbound.conf"], "relay")
    removal.run(dry_run=False)
    assert [call[0] for call in host.done] == ["stop", "delete", "forget-users", "delete"]


def test_a_clean_host_is_done_without_a_question(removing, capsys):
    host, removal = removing([])
    removal.run(dry_run=False)
    assert "Nothing of a relay" in capsys.readouterr().out
    assert host.done == []


def test_a_proxy_is_left_alone(removing):
    host, removal = removing(["proxy /etc/chatmail/proxy.nft", "path /etc/chatmail"], "relay")
    with pytest.raises(StepFailed, match=r"docs/proxy\.md"):
        removal.run(dry_run=False)
    assert host.done == []


def test_what_is_in_a_directory_that_goes_is_not_told_again():
    found = remove.inventory(LINES)
    assert found["path"] == ["/etc/chatmail", "/etc/nginx", "/etc/systemd/system/doveauth.service"]
    assert found["data"] == ["/etc/dkimkeys", "/home/vmail"]


def host_inventory(root: Path) -> subprocess.CompletedProcess:
    """Run the script as if ``root`` had the host's /etc and /usr/local."""
    script = (remove.SCRIPTS / "inventory.sh").read_text()
    for directory in ("/etc", "/usr/local"):
        script = script.replace(directory, f"{root}{directory}")
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)


def test_a_checkout_on_the_host_is_left_alone(tmp_path):
    (tmp_path / "etc/chatmail").mkdir(parents=True)
    source = tmp_path / "usr/local/src/chatmail-formula/chatmail/files/main.cf"
    source.parent.mkdir(parents=True)
    for path in (source, tmp_path / "usr/local/ours"):
        path.write_text("# Managed by chatmail-formula\n")
    done = host_inventory(tmp_path)
    assert done.returncode == 0
    assert f"path {tmp_path}/usr/local/ours" in done.stdout.splitlines()
    assert "chatmail-formula" not in done.stdout


@pytest.mark.parametrize("settings", ["", "[]", '{"settings": {}}'])
def test_mailboxes_of_which_nobody_knows_the_place_are_not_left_behind(tmp_path, settings):
    (tmp_path / "etc/chatmail").mkdir(parents=True)
    (tmp_path / "etc/chatmail/relay.json").write_text(settings)
    done = host_inventory(tmp_path)
    assert done.returncode == 1
    assert "Apply, then remove" in done.stderr
    assert "Traceback" not in done.stderr
