"""The units of our services are sound and tight."""

import re
import subprocess
from pathlib import Path

import pytest

from chatmaild import filtermail
from chatmaild.smtp import client as smtp_client
from test.salt.minion import CHECKOUT

SOURCES = CHECKOUT / "chatmail/chatmaild/files/etc/systemd/system"
EXPOSURE_MAX, BACKUP_EXPOSURE_MAX, STATUS_EXPOSURE_MAX = 1.0, 2.2, 3.0  # of 10, as systemd-analyze counts
# Root's two programs that look at the whole relay.
STATUS = ("chatmail-status", "operator-bot-host@")
# Every component is wanted, and everything that it may bring.
PILLAR = {
    "mail_domain": "chat.example.org",
    "tls_external_cert_and_key": "/etc/ssl/own.pem /etc/ssl/own.key",
    "echobot": True,
    "operator_bot": True,
    "metrics_page": True,
    "mtail_address": "127.0.0.1",
    "backup_repository": "/srv/backup",
}
# The proxy's change the kernel's settings, the backup's read what belongs to all, the status asks all daemons, and apt
# writes everywhere.
NOT_TIGHT = ("chatmail-proxy", "chatmail-backup", "chatmail-imap-instant", *STATUS)
OURS = sorted(
    path.name.split(".")[0]
    for path in CHECKOUT.glob("chatmail/*/files/etc/systemd/system/*.service*")
    if path.is_file() and not path.name.startswith(NOT_TIGHT)
)


@pytest.fixture
def render(renderer, tmp_path):
    """Render a managed file for a pillar; returns where it was written."""

    def write(source: Path, pillar: dict) -> Path:
        path = tmp_path / source.name.removesuffix(".j2")
        text = renderer.template(source.read_text(), settings=renderer.settings(pillar))
        path.write_text(text + "\n")
        return path

    return write


@pytest.fixture(scope="module")
def units(renderer, tmp_path_factory) -> Path:
    """What the states put into /etc/systemd/system."""
    directory = tmp_path_factory.mktemp("system")
    for chunk in renderer.low(PILLAR):
        path = Path(str(chunk.get("name")))
        if chunk["fun"] == "managed" and path.is_relative_to("/etc/systemd/system"):
            text = (CHECKOUT / "etc/roots" / chunk["source"].removeprefix("salt://")).read_text()
            if "template" in chunk:
                text = renderer.template(text, **chunk["context"])
            written = directory / path.relative_to("/etc/systemd/system")
            written.parent.mkdir(exist_ok=True)
            written.write_text(text + "\n")
    return directory


@pytest.mark.parametrize("unit", [unit for unit in OURS if unit not in ("certificate-reload", "iroh-relay")])
def test_units_are_sound(units, unit):
    verified = subprocess.run(
        ["systemd-analyze", "verify", units / f"{unit}.service"], capture_output=True, text=True, check=True
    )
    assert verified.stderr == ""


@pytest.mark.parametrize("unit", ["chatmail-backup", "chatmail-backup-check"])
def test_the_units_of_the_backup_are_sound_and_can_change_nothing_but_what_is_theirs(units, unit):
    path = units / f"{unit}.service"
    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=True)
    assert verified.stderr == ""
    assert "CapabilityBoundingSet=CAP_DAC_READ_SEARCH\n" in path.read_text()
    assert "ProtectSystem=strict\n" in path.read_text()
    security = ["systemd-analyze", "security", "--offline=true", f"--threshold={int(BACKUP_EXPOSURE_MAX * 10)}", path]
    result = subprocess.run(security, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout.splitlines()[-1]


@pytest.mark.parametrize("unit", STATUS)
def test_the_units_of_the_status_are_sound_and_change_no_programs_and_no_settings(units, unit):
    path = units / f"{unit}.service"
    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=True)
    assert verified.stderr == ""
    own = path.with_name(f"{path.name}.d") / "10-chatmail-status.conf"
    assert "ProtectSystem=full\n" in own.read_text()
    security = ["systemd-analyze", "security", "--offline=true", f"--threshold={int(STATUS_EXPOSURE_MAX * 10)}", path]
    result = subprocess.run(security, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout.splitlines()[-1]


@pytest.mark.parametrize("unit", OURS)
def test_units_are_tight_and_say_themselves_only_what_not_all_need(units, unit):
    path = units / f"{unit}.service"
    drop_ins = sorted(path.with_name(f"{path.name}.d").glob("00-chatmail-*.conf"))
    assert [drop_in.name for drop_in in drop_ins] == ["00-chatmail-sandbox.conf", "00-chatmail-unprivileged.conf"]
    shared = {line for drop_in in drop_ins for line in drop_in.read_text().splitlines() if "=" in line}
    assert not shared & set(path.read_text().splitlines())
    security = ["systemd-analyze", "security", "--offline=true", f"--threshold={int(EXPOSURE_MAX * 10)}", path]
    result = subprocess.run(security, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout.splitlines()[-1]


def test_the_filters_answer_before_those_who_ask_give_up(renderer):
    files = {
        "postfix-main-cf": r"^smtpd_proxy_timeout = (\d+)s$",
        "nginx-conf": r"^ *proxy_read_timeout (\d+)s;$",
    }
    low = {state["__id__"]: state for state in renderer.low({"mail_domain": "chat.example.org"})}
    needed_s = max(filtermail.OUTGOING_PATIENCE, filtermail.INCOMING_PATIENCE) + smtp_client.TOTAL_SECONDS
    for state, pattern in files.items():
        template = CHECKOUT / low[state]["source"].removeprefix("salt://")
        text = renderer.template(template.read_text(), **low[state]["context"])
        (allowed_s,) = re.findall(pattern, text, re.MULTILINE)
        assert needed_s < int(allowed_s)


@pytest.mark.parametrize("host, shown", [("127.0.0.1", "127.0.0.1"), ("fd00::1", "[fd00::1]")])
def test_sockets_of_the_filters_follow_the_settings(render, host, shown):
    pillar = {
        "mail_domain": "chat.example.org",
        "filtermail_host": host,
        "filtermail_smtp_port": 20001,
        "filtermail_smtp_port_incoming": 20002,
        "filtermail_http_port_incoming": 20003,
    }
    listened = {
        name: re.findall("^ListenStream=(.*)$", render(SOURCES / f"{name}.socket.j2", pillar).read_text(), re.MULTILINE)
        for name in ("filtermail", "filtermail-incoming")
    }
    assert listened == {
        "filtermail": [f"{shown}:20001"],
        # The service knows SMTP and HTTP apart by their order.
        "filtermail-incoming": [f"{shown}:20002", f"{shown}:20003"],
    }


def test_services_that_have_sockets_require_them(units):
    sockets = sorted(path.stem for path in units.glob("*.socket"))
    assert len(sockets) > 8
    for name in sockets:
        if "Accept=yes\n" in (units / f"{name}.socket").read_text():
            # A process for each connection.
            assert (units / f"{name}@.service").exists()
            continue
        assert f"Requires={name}.socket\n" in (units / f"{name}.service").read_text()
