"""chatmaild alone, as pip installs it: its commands are there, explain themselves, and name what is wrong."""

import importlib.metadata
import re
import shutil
import site
import subprocess
import sys
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from test.salt.minion import CHECKOUT

# Arguments of each command behind which its settings are missing or wrong, and what it then names.
BAD_INPUT = {
    "doveauth": (["bad.toml"], "mail_domain is 7; allowed is text"),
    "lastlogin": (["bad.toml"], "mail_domain is 7; allowed is text"),
    "chatmail-metadata": (["missing.toml"], "missing.toml: cannot read the settings"),
    "filtermail": (["bad.toml", "sideways"], "invalid choice: 'sideways' (choose from 'outgoing', 'incoming')"),
    "chatmail-expire": (["bad.toml", "--days=x"], "argument --days"),
    "chatmail-quota-expire": (["many", "/"], "argument TARGET_MB: invalid int value: 'many'"),
    "chatmail-fsreport": (["bad.toml"], "mail_domain is 7; allowed is text"),
    "chatmail-metrics": (["missing"], "missing"),
    "delete_inactive_users": (["bad.toml"], "mail_domain is 7; allowed is text"),
    "turn-credentials": (["missing"], "missing"),
    "newemail": (["bad.toml"], "mail_domain is 7; allowed is text"),
    "chatmail-migrate-passdb": (["bad.toml"], "mail_domain is 7; allowed is text"),
    "chatmail-invites": (["make", "--uses=0"], "'0' is not allowed; allowed is a whole number from 1 to"),
    "dane-policy": (["many"], "unrecognized arguments: many"),
    "chatmail-transport": (["bad.toml"], "mail_domain is 7; allowed is text"),
    "chatmail-reach": (["look", "a b", "here", "me@here"], "'a b' is not what stands after the @ of an address"),
    "transport-fallback": (["many"], "unrecognized arguments: many"),
    "network-share": (["many"], "argument port: invalid int value: 'many'"),
    "echobot": (["bad.toml"], "echobot_address is missing"),
    "operator-bot": (["bad.toml"], "mail_domain is 7; allowed is text"),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The programs of a fresh environment into which chatmaild was installed, from a copy that pip may build in."""
    scratch = tmp_path_factory.mktemp("chatmaild")
    shutil.copytree(CHECKOUT / "chatmaild", scratch / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    venv.create(scratch / "venv", symlinks=True)
    # What it depends on is not fetched again, but it must be declared, or pip would not find it there.
    libraries = scratch / f"venv/lib/python3.{sys.version_info.minor}/site-packages/libraries.pth"
    libraries.write_text("\n".join(site.getsitepackages()))
    pip = [sys.executable, "-m", "pip", f"--python={scratch}/venv/bin/python", "install", "--quiet"]
    offline = ["--no-index", "--no-build-isolation", "--disable-pip-version-check", "--root-user-action=ignore"]
    subprocess.run([*pip, *offline, scratch / "source"], check=True, timeout=120)
    (scratch / "bad.toml").write_text("mail_domain = 7\n")
    return scratch / "venv/bin"


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess:
    # Not in the checkout, whose sources it would find.
    directory = program.parents[2]
    return subprocess.run([program, *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def test_each_command_is_installed_explains_itself_and_names_bad_input(installed):
    project = tomllib.loads((CHECKOUT / "chatmaild/pyproject.toml").read_text())["project"]
    assert project["scripts"].keys() == BAD_INPUT.keys()
    with ThreadPoolExecutor(2) as pool:
        helps = pool.map(lambda name: run(installed / name, "--help"), BAD_INPUT)
        failures = pool.map(lambda name: run(installed / name, *BAD_INPUT[name][0]), BAD_INPUT)
        for name, shown, failed in zip(BAD_INPUT, helps, failures, strict=True):
            usage, description = shown.stdout.split("\n\n")[:2]
            assert shown.returncode == 0, name
            assert usage.startswith(f"usage: {name} "), name
            assert re.match(r"[A-Z].+\.", description, re.DOTALL), name
            assert failed.returncode in {1, 2}, name
            assert BAD_INPUT[name][1] in failed.stderr, name
            assert "Traceback" not in failed.stderr, name


def test_each_command_works_in_a_directory_that_is_not_for_its_user(installed, tmp_path):
    """As `runuser -u vmail` does in root's own; here it is one that is gone."""
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'

    def explained(name: str) -> int:
        gone = tmp_path / name
        gone.mkdir()
        argv = ["sh", "-c", script, "sh", gone, installed / name, "--help"]
        return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode

    with ThreadPoolExecutor(2) as pool:
        assert dict(zip(BAD_INPUT, pool.map(explained, BAD_INPUT), strict=True)) == dict.fromkeys(BAD_INPUT, 0)


def test_it_declares_what_it_imports(installed):
    listed = [str(installed / "python"), "-c", "import importlib.metadata as m; print(*m.requires('chatmaild'))"]
    declared = set(
        re.findall(r"([\w.-]+)>=", subprocess.run(listed, capture_output=True, text=True, check=True).stdout)
    )
    imported = set()
    for source in (CHECKOUT / "chatmaild/src/chatmaild").rglob("*.py"):
        imported |= set(re.findall(r"^\s*(?:from|import) (\w+)", source.read_text(), re.MULTILINE))
    distributions = importlib.metadata.packages_distributions()
    foreign = imported - set(sys.stdlib_module_names) - {"chatmaild"}
    assert {distributions[module][0] for module in foreign} == declared
