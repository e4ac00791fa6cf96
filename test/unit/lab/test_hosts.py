import configparser
import subprocess
from pathlib import Path

import pytest

from test.lab import hosts
from test.lab.hosts import Host
from test.lab.layout import Layout

LAYOUT = Layout("", Path("/checkout"), Path("/cache"))
HOST = Host("_one.test", 11, LAYOUT)


def test_the_network_file_gives_both_addresses_with_their_networks():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    ipv4, ipv6 = hosts.network_file(HOST).split("[Address]\n")[1:]
    parser.read_string(f"[Address]\n{ipv4}[Address6]\n{ipv6}")
    assert parser["Address"]["Address"] == "198.18.0.11/24"
    assert parser["Address6"]["Address"] == "fdc4:a71e:1ab0::11/64"


def test_a_system_is_named_without_underscores():
    assert hosts.system_name("_one.test") == "one.test"


def test_forget_host_keeps_all_others():
    known = "198.18.0.11 ssh-ed25519 AAAA\n198.18.0.1 ssh-ed25519 BBBB\n"
    assert hosts.forget_host(known, "198.18.0.11") == "198.18.0.1 ssh-ed25519 BBBB\n"


@pytest.mark.parametrize(("host", "address"), [("_one.test", "198.18.0.11"), ("ns", "198.18.0.2")])
def test_ssh_reads_its_configuration_as_meant(tmp_path, host, address):
    config = tmp_path / "config"
    config.write_text(hosts.ssh_config(LAYOUT, {"ns": 2, "_one.test": 11}))
    shown = subprocess.run(["ssh", "-G", "-F", config, host], capture_output=True, text=True, check=True).stdout
    settings = dict(line.split(" ", 1) for line in shown.splitlines())
    assert settings["hostname"] == address
    assert settings["user"] == "root"
    assert settings["stricthostkeychecking"] == "true"
    assert settings["userknownhostsfile"] == "/checkout/build/lab/ssh/known_hosts"


def test_a_host_joins_its_cgroups_before_it_starts(tmp_path):
    groups = [tmp_path / "first", tmp_path / "second"]
    for group in groups:
        group.mkdir()
    command = ["sh", "-c", "echo $$ $1", "sh", "an argument"]
    argv = ["sh", "-c", hosts.JOIN_AND_EXEC, "sh", *map(str, groups), "--", *command]
    number, argument = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split(" ", 1)
    assert argument == "an argument\n"
    assert [(group / "cgroup.procs").read_text() for group in groups] == [f"{number}\n"] * 2


def test_a_key_pair_is_made_once(tmp_path):
    key = tmp_path / "ssh" / "id_ed25519"
    hosts.make_ssh_key(key, "comment")
    first = key.read_bytes()
    hosts.make_ssh_key(key, "comment")
    assert key.read_bytes() == first
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.with_suffix(".pub").read_text().startswith("ssh-ed25519 ")
