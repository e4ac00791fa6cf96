"""The units of our services are sound and tight."""

import re
import subprocess
from pathlib import Path

import pytest

from chatmaild import filtermail
from chatmaild.smtp import client as smtp_client
from test.salt.minion import CHECKOUT

UNITS = sorted(
    path
    for path in CHECKOUT.glob("chatmail/*/files/etc/systemd/system/*")
    if path.is_file() and "python3 -m chatmaild." in path.read_text()
)
SOCKETS = sorted(CHECKOUT.glob("chatmail/*/files/etc/systemd/system/*.socket*"))
EXPOSURE_MAX = 2.5  # of 10, as systemd-analyze counts


@pytest.fixture
def render(renderer, tmp_path):
    """Render a managed file for a pillar; returns where it was written."""

    def write(source: Path, pillar: dict) -> Path:
        path = tmp_path / source.name.removesuffix(".j2")
        text = renderer.template(source.read_text(), settings=renderer.settings(pillar))
        path.write_text(text + "\n")
        return path

    return write


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_are_sound_and_tight(render, unit):
    # All of them, since a unit may need another.
    path = {other: render(other, {"mail_domain": "chat.example.org"}) for other in UNITS + SOCKETS}[unit]
    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=True)
    assert verified.stderr == ""
    security = ["systemd-analyze", "security", "--offline=true", f"--threshold={int(EXPOSURE_MAX * 10)}", path]
    result = subprocess.run(security, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout.splitlines()[-1]


def test_the_filters_answer_before_those_who_ask_give_up(render):
    files = {
        "postfix/files/etc/postfix/main.cf.j2": r"^smtpd_proxy_timeout = (\d+)s$",
        "nginx/files/etc/nginx/nginx.conf.j2": r"^ *proxy_read_timeout (\d+)s;$",
    }
    needed_s = max(filtermail.OUTGOING_PATIENCE, filtermail.INCOMING_PATIENCE) + smtp_client.TOTAL_SECONDS
    for name, pattern in files.items():
        text = render(CHECKOUT / "chatmail" / name, {"mail_domain": "chat.example.org"}).read_text()
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
    units = CHECKOUT / "chatmail/chatmaild/files/etc/systemd/system"
    listened = {
        name: re.findall("^ListenStream=(.*)$", render(units / f"{name}.socket.j2", pillar).read_text(), re.MULTILINE)
        for name in ("filtermail", "filtermail-incoming")
    }
    assert listened == {
        "filtermail": [f"{shown}:20001"],
        # The service knows SMTP and HTTP apart by their order.
        "filtermail-incoming": [f"{shown}:20002", f"{shown}:20003"],
    }


def test_services_that_have_sockets_require_them(render):
    for unit in UNITS:
        socket = unit.name.removesuffix(".j2").replace(".service", ".socket")
        if any(path.name.removesuffix(".j2") == socket for path in SOCKETS):
            assert f"Requires={socket}\n" in render(unit, {"mail_domain": "chat.example.org"}).read_text()
