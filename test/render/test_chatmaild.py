"""The services read what the formula writes for them, and their units are sound and tight."""

import subprocess
from pathlib import Path

import pytest

from chatmaild.config import Config, read_config
from test.render.conftest import PILLARS
from test.salt.minion import CHECKOUT

FILES = CHECKOUT / "chatmail/chatmaild/files"
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


def config_of(render, pillar: dict) -> Config:
    return read_config(render(FILES / "etc/chatmail/chatmail.ini.j2", pillar))


@pytest.mark.parametrize("name", PILLARS)
def test_the_services_understand_all_settings(renderer, render, name):
    pillar = renderer.pillar(PILLARS[name])
    settings = renderer.settings(pillar)
    config = config_of(render, pillar)
    assert config.unknown_keys == ()
    for derived in ("mail_domain", "mail_domain_bare", "ipv4_relay", "postfix_myhostname", "tls_mode"):
        assert getattr(config, derived) == settings[derived]
    for path in ("mailboxes_dir", "tls_cert_path", "tls_key_path"):
        assert str(getattr(config, path)) == settings[path]
    assert config.max_mailbox_size == settings["max_mailbox_size_mb"]


@pytest.mark.parametrize("domain", ["chat.example.org", "_chat.test", "192.0.2.7"])
def test_defaults_of_formula_and_services_agree(render, tmp_path, domain):
    bare = tmp_path / "bare.ini"
    bare.write_text(f"[params]\nmail_domain = {domain}\n")
    assert config_of(render, {"mail_domain": domain}) == read_config(bare)


@pytest.mark.parametrize(
    "key, given, read",
    [
        ("passthrough_recipients", ["a@b.org", "@c.org"], ("a@b.org", "@c.org")),
        ("privacy_postal", "Street 1 %\n\n  Town", "Street 1 %\n\nTown"),
        ("privacy_postal", "Street\n[params]\nmail_domain = x.org", "Street\n[params]\nmail_domain = x.org"),
        ("iroh_relay", "", ""),
        ("iroh_relay", "https://iroh.example.org", "https://iroh.example.org"),
        ("mtail_address", "::1", "::1"),
        ("imap_compress", True, True),
        ("max_load_1m", 0.5, 0.5),
        ("min_free_disk_space", " 2gb ", 2048),
    ],
)
def test_a_value_arrives_as_it_was_given(render, key, given, read):
    assert getattr(config_of(render, {"mail_domain": "chat.example.org", key: given}), key) == read


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_are_sound_and_tight(render, unit):
    # All of them, since a unit may need another.
    path = {other: render(other, {"mail_domain": "chat.example.org"}) for other in UNITS}[unit]
    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=True)
    assert verified.stderr == ""
    security = ["systemd-analyze", "security", "--offline=true", f"--threshold={int(EXPOSURE_MAX * 10)}", path]
    result = subprocess.run(security, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout.splitlines()[-1]
