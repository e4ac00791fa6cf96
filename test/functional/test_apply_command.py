"""`python -m tools.apply` where no apply can begin: it says why and what to do, and its exit code is not 0."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools.apply import WAVE, _Host, waves
from tools.ssh import Target

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def config_dir(tmp_path_factory) -> Path:
    """Salt's configuration with two hosts that nobody can reach; one of them by password."""
    root = tmp_path_factory.mktemp("controller")
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed_port = server.getsockname()[1]
    master = {
        "root_dir": str(root),
        "file_roots": {"base": [str(CHECKOUT / "etc" / "roots")]},
        "module_dirs": [str(CHECKOUT / "etc" / "ext")],
        "roster_file": str(root / "roster"),
        "ssh_log_file": str(root / "ssh.log"),
        "thin_exclude_saltexts": True,
        "pillar_roots": {"base": [str(root / "pillar")]},
    }
    roster = {
        "down": {"host": "127.0.0.1", "port": closed_port, "user": "root"},
        "down-too": {"host": "127.0.0.1", "port": closed_port, "user": "root"},
        "by-password": {"host": "127.0.0.1", "port": closed_port, "user": "root", "passwd": "x"},
    }
    (root / "master").write_text(yaml.safe_dump(master))
    (root / "roster").write_text(yaml.safe_dump(roster))
    (root / "pillar").mkdir()
    (root / "pillar/top.sls").write_text(yaml.safe_dump({"base": {"*": ["relay"]}}))
    (root / "pillar/relay.sls").write_text(yaml.safe_dump({"chatmail": {"mail_domain": "chat.example.org"}}))
    return root


def apply(config_dir: Path, *targets: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tools.apply", "-c", str(config_dir), *targets],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, " ".join(done.stdout.split())


def test_a_refused_connection_names_host_port_and_what_to_check(config_dir):
    port = yaml.safe_load((config_dir / "roster").read_text())["down"]["port"]
    code, said = apply(config_dir, "down")
    assert code == 1
    assert "down nothing was applied" in said
    assert f"root@127.0.0.1, port {port}" in said
    assert "Connection refused" in said
    assert "does sshd listen on that port" in said


@pytest.mark.parametrize("says", ["echo 'busy 7 \033[2J12:00'", "printf 'in the way\n\033[2Jclosed' >&2; exit 1"])
def test_what_a_host_says_in_place_of_ready_does_not_command_the_terminal(says):
    target = Target("relay", "192.0.2.1", 22, "root", sudo=False, thin_dir="/thin", argv=("sh", "-c", says))
    host = _Host(target)
    try:
        refusal = host.refusal()
    finally:
        host.close()
    assert "\N{REPLACEMENT CHARACTER}[2J" in refusal.errors[0]
    assert "\x1b" not in "".join(refusal.errors)


def test_a_target_that_the_roster_lacks_is_an_error_also_beside_one_that_it_has(config_dir):
    code, said = apply(config_dir, "down", "relai")
    assert code == 1
    assert "matches relai; it has: by-password, down" in said


def test_the_first_goes_alone_and_the_others_in_waves(config_dir, tmp_path):
    names = [f"relay-{letter}" for letter in "abcdefgh"]
    master = yaml.safe_load((config_dir / "master").read_text()) | {"roster_file": str(tmp_path / "roster")}
    (tmp_path / "master").write_text(yaml.safe_dump(master))
    (tmp_path / "roster").write_text(yaml.safe_dump({name: {"host": "127.0.0.1"} for name in [*names, "other"]}))
    turns = waves(tmp_path, ["relay-d", "relay*"], ["chatmail"])
    others = [name for name in names if name != "relay-d"]
    assert turns == [["relay-d"], others[:WAVE], others[WAVE:]]


def test_after_a_failure_the_others_keep_what_they_have(config_dir):
    code, said = apply(config_dir, "down", "down-*")
    assert code == 1
    assert "Connection refused" in said
    assert "✗ down nothing was applied" in said
    assert "down-too not touched" in said


def test_what_is_wrong_with_a_later_one_is_said_before_the_first_begins(config_dir):
    code, said = apply(config_dir, "down", "by-*")
    assert code == 1
    assert said.startswith("✗ by-password: the roster has a password")


def test_a_password_in_the_roster_is_refused_before_anything_is_sent(config_dir):
    code, said = apply(config_dir, "by-password")
    assert code == 1
    assert "Use a key" in said


def test_a_missing_roster_is_named(config_dir, tmp_path):
    master = yaml.safe_load((config_dir / "master").read_text()) | {"roster_file": str(tmp_path / "none")}
    (tmp_path / "master").write_text(yaml.safe_dump(master))
    code, said = apply(tmp_path, "relay")
    assert code == 1
    assert "There is no roster" in said
    assert "etc/roster.example" in said


def test_a_missing_configuration_is_named(tmp_path):
    code, said = apply(tmp_path, "relay")
    assert code == 1
    assert "Run this in the checkout" in said
