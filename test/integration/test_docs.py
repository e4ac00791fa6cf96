"""Every command in the documentation is run: as it stands, by an operator with a relay, or by another test."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from test.integration.conftest import PERMISSIVE
from test.lab import Host, Lab
from test.lab.nameserver import relay_settings
from test.salt.minion import CHECKOUT
from test.support.pages import commands

PAGES = sorted((CHECKOUT / "docs").glob("*.md"))

# Commands whose run belongs to another test, which must contain these words. Hosts of the lab are made with a key.
ELSEWHERE = {
    # A rotation goes on for days; here it would go on in the tests that come after.
    "salt-ssh relay chatmail_dkim.rotate": ("test/integration/test_dkim.py", "chatmail_dkim.rotate"),
    "make venv": (".ci/run", "make test"),
    "./relay init chat.example.org": ("test/unit/tools/test_begin.py", '["chat.example.org"'),
    "./relay 'relay*' apply": ("test/integration/test_ways_to_apply.py", '"relay*",'),
    "./relay 'relay*' status": ("test/integration/test_apply_command.py", '"tools.fleet", "_*.test"'),
    "./relay watch": ("test/integration/test_status.py", '"tools.watch"'),
    # With a pending upgrade of Debian's it is not well.
    "./relay status": ("test/integration/test_status.py", '"chatmail_relay.status"'),
    ". .venv/bin/activate": ("test/integration/test_docs.py", ". .venv/bin/activate"),
    "salt-ssh 'relay*' state.apply chatmail": ("test/integration/test_ways_to_apply.py", '"relay*",'),
    "apt install git python3-venv python3-dnspython python3-cryptography python3-dkim": (
        "test/integration/test_ways_to_apply.py",
        '["python3-venv", "python3-dnspython", "python3-cryptography", "python3-dkim"]',
    ),
    "python3 -m venv --system-site-packages /opt/salt": (
        "test/integration/test_ways_to_apply.py",
        '"venv", "--system-site-packages", "/opt/salt"',
    ),
    "/opt/salt/bin/pip install salt==3008.3": ("requirements.txt", "salt==3008.3"),
    "/opt/salt/bin/salt-call state.apply chatmail": (
        "test/integration/test_ways_to_apply.py",
        "/opt/salt/bin/salt-call",
    ),
    "make web": ("test/integration/test_web_preview.py", "with preview() as"),
    "make web PILLAR=pillar/relay.sls": ("test/unit/tools/test_web.py", "web.Source(pillar, None)"),
    "make web FOLDER=etc/roots/pages": ("test/integration/test_web_preview.py", 'preview("--folder"'),
    "make web PORT=8001": ("test/integration/test_web_preview.py", '"--port"'),
    "salt relay saltutil.sync_all": ("test/integration/test_ways_to_apply.py", '"saltutil.sync_all"'),
    "salt-ssh proxy state.apply chatmail.proxy": ("test/integration/test_proxy.py", '"state.apply", "chatmail.proxy"'),
    **{
        command: ("test/integration/test_backup.py", words)
        for command, words in {
            "(umask 077; openssl rand -hex 32 > backup-password)": "openssl rand -hex 32 > backup-password",
            "ssh root@chat.example.org 'umask 077; cat > /root/chatmail-backup-password' "
            "< backup-password": "put(host, PASSWORD_FILE",
            "./relay backup": '"chatmail_backup.save"',
            "./relay backup check": '"chatmail_backup.check"',
            "./relay restore --from=sftp:relay@backup.example.net:/srv/relay --password-file=backup-password": (
                '"tools.restore"'
            ),
            "./relay remove --dry-run": '"--dry-run"',
            "./relay remove": '"tools.remove"',
        }.items()
    },
    # A relay of its own has the bot.
    "./relay bot": ("test/integration/test_bots.py", '"chatmail_bot.link"'),
    "./relay bot operators": ("test/integration/test_bots.py", '"chatmail_bot.operators"'),
    "./relay bot remove alice1234@chat.example.org": ("test/integration/test_bots.py", '"chatmail_bot.remove"'),
    "./relay upgrade": ("test/integration/test_rollback.py", '"tools.upgrade"'),
    "./relay rollback": ("test/integration/test_rollback.py", '"--back"'),
    "make migrate FROM=old TO=relay": ("test/integration/test_migration.py", '"make", "migrate"'),
    ".venv/bin/python -m tools.migrate --reopen old relay": (
        "test/integration/test_migration.py",
        '"tools.migrate", "--reopen"',
    ),
    **{
        command: ("test/integration/test_upgrade.py", words)
        for command, words in {
            "apt update": 'command("apt update")',
            "apt full-upgrade": 'command("apt -o")',
            "systemctl mask --now postfix@- postfix dovecot": 'command("systemctl mask")',
            "grep -rl bookworm /etc/apt/sources.list* | xargs sed -i s/bookworm/trixie/g": 'command("grep -rl")',
            "apt -o Dpkg::Options::=--force-confold full-upgrade": 'command("apt -o")',
            "reboot": '"poweroff"',
        }.items()
    },
    "salt relay state.apply chatmail": ("test/integration/test_ways_to_apply.py", '"state.apply", "chatmail"'),
    "salt-ssh relay chatmail_relay.reach example.org": (
        "test/integration/test_https_delivery.py",
        '"chatmail_relay.reach"',
    ),
    "salt-ssh relay chatmail_relay.status": ("test/integration/test_status.py", '"chatmail_relay.status"'),
    "salt-ssh --out=json relay chatmail_relay.status": (
        "test/integration/test_status.py",
        'as_operator(lab, one_host, "--out=json")',
    ),
    **{
        f"salt-ssh relay chatmail_queue.{function} example.org": (
            "test/integration/test_status.py",
            f'"chatmail_queue.{function}"',
        )
        for function in ("retry", "drop")
    },
    **{
        f"salt-ssh relay chatmail_account.{function} alice1234@chat.example.org": (
            "test/integration/test_accounts.py",
            f'account("{function}"',
        )
        for function in ("info", "ban", "unban", "delete")
    },
    **{
        f"salt-ssh relay chatmail_account.nocreate {switch}": (
            "test/integration/test_accounts.py",
            f'account("nocreate", "{switch}")',
        )
        for switch in ("on=True", "on=False")
    },
}


def all_commands() -> dict[str, None]:
    """In order, each once."""
    return dict.fromkeys(command for page in PAGES for command in commands(page.read_text()))


@pytest.fixture(scope="module")
def clone(lab: Lab, one_host: Host, tmp_path_factory) -> Path:
    """An operator's clone, in which `relay` is the first relay; and an ssh that knows it as chat.example.org."""
    directory = tmp_path_factory.mktemp("clone")
    files = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in files.splitlines():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, directory / name, follow_symlinks=False)
    (directory / ".venv").symlink_to(Path(sys.executable).parents[1])
    roster = yaml.safe_load(lab.layout.roster.read_text())
    (directory / "etc/roster").write_text(yaml.safe_dump({"relay": roster[one_host.name]}))
    (directory / "pillar").mkdir()
    (directory / "pillar/top.sls").write_text(yaml.safe_dump({"base": {"relay": ["relay"]}}))
    pillar = {"mail_domain": one_host.name, **PERMISSIVE, **relay_settings(lab.layout)}
    (directory / "pillar/relay.sls").write_text(yaml.safe_dump({"chatmail": pillar}))
    ssh = directory / "bin/ssh"
    ssh.parent.mkdir()
    config = directory / "ssh_config"
    config.write_text(f"Host chat.example.org\n  HostName {one_host.ipv4}\nInclude {lab.layout.ssh_config}\n")
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {shlex.quote(str(config))} "$@"\n')
    ssh.chmod(0o755)
    return directory


def test_commands_are_found_in_the_pages():
    assert "salt-ssh relay state.apply chatmail" in all_commands()
    assert len(PAGES) > 3


def test_what_other_tests_run_is_in_the_pages_and_in_them():
    assert ELSEWHERE.keys() <= all_commands().keys()
    for place, words in ELSEWHERE.values():
        assert words in (CHECKOUT / place).read_text()


@pytest.mark.parametrize("command", [command for command in all_commands() if command not in ELSEWHERE])
def test_command_does_what_the_page_says(clone: Path, command: str):
    script = f'. .venv/bin/activate && PATH="$PWD/bin:$PATH" && {command}'
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=clone,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.strip()


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+\.md)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"
