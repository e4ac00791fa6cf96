"""The lab's certificate authority is set up so that relays can use it."""

import json
import subprocess
from pathlib import Path

import pytest

from test.lab import authority
from test.lab.layout import Layout


@pytest.fixture
def layout(tmp_path):
    layout = Layout("", tmp_path, tmp_path / "cache")
    layout.state.mkdir(parents=True)
    authority.make_server_pair(layout)
    return layout


def test_the_servers_certificate_is_made_once(layout):
    before = layout.authority_cert.read_bytes()
    authority.make_server_pair(layout)
    assert layout.authority_cert.read_bytes() == before


def test_a_host_trusts_the_server_by_the_file_that_it_gets(layout, tmp_path):
    for name, text in authority.trust_files(layout).items():
        (tmp_path / Path(name).name).write_text(text)
    verify = ["openssl", "verify", "-no-CAfile", "-CApath", str(tmp_path), "-verify_hostname", authority.SERVER]
    subprocess.run([*verify, str(layout.authority_cert)], check=True, capture_output=True)


def test_the_configuration_names_files_that_the_server_gets(layout):
    files = authority.server_files(layout)
    config = json.loads(files[authority.CONFIG])["pebble"]
    assert {config["certificate"].lstrip("/"), config["privateKey"].lstrip("/")} <= set(files)
    assert config["certificateValidityPeriod"] == 90 * 86400
