"""The units of our services are sound and tight."""

import subprocess
from pathlib import Path

import pytest

from test.salt.minion import CHECKOUT

UNITS = sorted(
    path
    for path in CHECKOUT.glob("chatmail/*/files/etc/systemd/system/*")
    if path.is_file() and "python3 -m chatmaild." in path.read_text()
)
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
    path = {other: render(other, {"mail_domain": "chat.example.org"}) for other in UNITS}[unit]
    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=True)
    assert verified.stderr == ""
    security = ["systemd-analyze", "security", "--offline=true", f"--threshold={int(EXPOSURE_MAX * 10)}", path]
    result = subprocess.run(security, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout.splitlines()[-1]
