"""Three ways to apply one formula: salt-ssh, to several relays at once too; salt-call on the relay; a Salt master."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from test.integration.conftest import PERMISSIVE, RELAYS
from test.lab import Host, Lab
from test.lab.nameserver import relay_settings
from test.relay.delivery import Relay, new_user
from test.salt.minion import CHECKOUT

SALT = re.search(r"(?m)^salt==.*$", (CHECKOUT / "requirements.txt").read_text())[0]
FORMULA = "/srv/chatmail-formula"
KEY_FILE = "/etc/chatmail/tsig.key"


def changed(states: dict) -> dict:
    """The changes of an apply, all of whose states succeeded."""
    assert not [state["comment"] for state in states.values() if state["result"] is not True]
    return {name: state["changes"] for name, state in states.items() if state["changes"]}


def upload(host: Host, source: Path, target: str) -> None:
    """Put what is in a directory here into one of the host."""
    archive = subprocess.run(["tar", "c", "-C", str(source), "."], stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(host.ssh_argv("mkdir", "-p", target, "&&", "tar", "x", "-C", target), input=archive, check=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """What a clone of the repository has, and not what a developer's checkout has beside it."""
    directory = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in listed.splitlines():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, directory / name, follow_symlinks=False)
    return directory


@pytest.fixture(scope="module")
def with_salt(lab: Lab, checkout: Path, tmp_path_factory) -> Iterator[Host]:
    """A bare host with Salt in a virtual environment and a checkout, as docs/applying.md says."""
    wheels = tmp_path_factory.mktemp("wheels")
    pip = str(Path(sys.executable).with_name("pip"))
    subprocess.run([pip, "wheel", "--quiet", f"--wheel-dir={wheels}", SALT], check=True, timeout=300)
    host = lab.add("_alone.test")
    host.run(["apt-get", "-qq", "update"], timeout=120)
    packages = ["python3-venv", "python3-dnspython", "python3-cryptography", "python3-dkim"]
    host.run(["apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages], timeout=300)
    # The host has no way to a package index.
    upload(host, wheels, "/root/wheels")
    host.run(["python3", "-m", "venv", "--system-site-packages", "/opt/salt"], timeout=120)
    host.run(["/opt/salt/bin/pip", "install", "--quiet", "--no-index", "--find-links=/root/wheels", SALT], timeout=300)
    upload(host, checkout, FORMULA)
    yield host
    lab.remove(host.name)


@pytest.fixture(scope="module")
def pillar(lab: Lab, with_salt: Host) -> dict:
    """What the operator writes; the key for updates of the zone is where the states are run, on the host."""
    ours = relay_settings(lab.layout)
    with_salt.write(KEY_FILE, Path(ours["dns_update_key_file"]).read_text(), mode="0600")
    return {"chatmail": {"mail_domain": with_salt.name, **PERMISSIVE, **ours, "dns_update_key_file": KEY_FILE}}


def salt_call(host: Host, *arguments: str) -> dict:
    command = ["env", "-C", FORMULA, "/opt/salt/bin/salt-call", "--out=json", *arguments]
    return json.loads(host.run(command, timeout=600).stdout)["local"]


def test_salt_call_makes_a_relay_of_the_host_it_runs_on(with_salt: Host, pillar: dict):
    with_salt.write(f"{FORMULA}/pillar/top.sls", yaml.safe_dump({"base": {"relay": ["relay"]}}))
    with_salt.write(f"{FORMULA}/pillar/relay.sls", yaml.safe_dump(pillar))
    assert changed(salt_call(with_salt, "state.apply", "chatmail"))
    assert changed(salt_call(with_salt, "state.apply", "chatmail")) == {}
    assert salt_call(with_salt, "chatmail_dns.check")["success"]
    assert salt_call(with_salt, "chatmail_dkim.check")["success"]
    new_user(Relay(with_salt.name, str(with_salt.ipv4)))


def test_a_salt_master_applies_the_same(lab: Lab, checkout: Path, with_salt: Host, pillar: dict, salt_factories):
    pillar_root = checkout / "pillar"
    pillar_root.mkdir()
    (pillar_root / "top.sls").write_text(yaml.safe_dump({"base": {"relay": ["relay"]}}))
    (pillar_root / "relay.sls").write_text(yaml.safe_dump(pillar))
    interface = str(lab.layout.ipv4(1))
    roots = {"file_roots": {"base": [str(checkout)]}, "pillar_roots": {"base": [str(pillar_root)]}}
    master = salt_factories.salt_master_daemon(
        "master",
        overrides={"interface": interface, "auto_accept": True, **roots},
    )
    minion = {"id": "relay", "master": interface, "master_port": master.config["ret_port"]}
    with_salt.write("/etc/salt/minion", yaml.safe_dump(minion))
    with master.started():
        with_salt.run(["systemd-run", "--quiet", "--unit=salt-minion", "/opt/salt/bin/salt-minion"])
        try:
            salt = master.salt_cli(timeout=300)
            for _ in range(30):
                if salt.run("test.ping", minion_tgt="relay", _timeout=60).data is True:
                    break
            synced = salt.run("saltutil.sync_all", minion_tgt="relay")
            assert "modules.chatmail_dns" in synced.data["modules"]
            assert "utils.chatmail_words" in synced.data["utils"]
            applied = salt.run("state.apply", "chatmail", minion_tgt="relay")
        finally:
            with_salt.run(["systemctl", "stop", "salt-minion"])
    assert applied.returncode == 0
    assert changed(applied.data) == {}


def test_one_command_applies_to_several_relays_with_shared_defaults(lab: Lab, one_host: Host, two_host: Host, tmp_path):
    """The shared pillar and a relay's own are merged; the one that comes later in top.sls has its way."""
    shutil.copytree(lab.layout.salt / "etc", tmp_path / "etc")
    config = yaml.safe_load((tmp_path / "etc/master").read_text())
    config |= {"pillar_roots": {"base": [str(tmp_path / "pillar")]}, "roster_file": str(tmp_path / "etc/roster")}
    (tmp_path / "etc/master").write_text(yaml.safe_dump(config))
    roster = yaml.safe_load(lab.layout.roster.read_text())
    names = dict(zip(("relay-one", "relay-two"), RELAYS, strict=True))
    (tmp_path / "etc/roster").write_text(yaml.safe_dump({name: roster[host] for name, host in names.items()}))
    (tmp_path / "pillar").mkdir()
    ours = relay_settings(lab.layout)
    pages = {
        "top": {"base": {"relay*": ["shared"], **{name: [name] for name in names}}},
        "shared": {"chatmail": {**PERMISSIVE, **ours, "delete_mails_after": 11, "max_mailbox_size": "50M"}},
        "relay-one": {"chatmail": {"mail_domain": RELAYS[0]}},
        "relay-two": {"chatmail": {"mail_domain": RELAYS[1], "max_mailbox_size": "60M"}},
    }
    for page, content in pages.items():
        (tmp_path / f"pillar/{page}.sls").write_text(yaml.safe_dump(content))
    salt_ssh = str(Path(sys.executable).with_name("salt-ssh"))
    command = [
        salt_ssh,
        f"--config-dir={tmp_path / 'etc'}",
        "--out=json",
        "--static",
        "relay*",
        "state.apply",
        "chatmail",
    ]
    try:
        done = subprocess.run(
            command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, timeout=280, check=True
        )
        states = json.loads(done.stdout)
        assert all(changed(states[name]) for name in names)
        files = [tomllib.loads(host.read("/etc/chatmail/expire.toml")) for host in (one_host, two_host)]
    finally:
        for name in RELAYS:
            lab.salt_ssh(name, "state.apply", "chatmail")
    assert [file["max_mailbox_size_mb"] for file in files] == [50, 60]
    assert all(file["delete_mails_after"] == 11 for file in files)
