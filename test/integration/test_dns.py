"""Records are published from the controller to the lab's name server, and checked there; the key stays where it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from test.lab import Host, Lab
from test.lab.nameserver import KEY_NAME
from test.lab.saltconf import SaltFailed

NAME = "names.test"
SETTINGS = '{% from "chatmail/map.jinja" import settings with context %}{{ settings | json }}'


@pytest.fixture(scope="module")
def key_file(lab: Lab, tmp_path_factory) -> Path:
    """The lab's TSIG key in a file as an operator has it from tsig-keygen."""
    path = tmp_path_factory.mktemp("tsig") / "key"
    path.touch(0o600)
    secret = lab.layout.tsig_secret.read_text()
    path.write_text(f'key "{KEY_NAME}" {{\n\talgorithm hmac-sha256;\n\tsecret "{secret}";\n}};\n')
    return path


@pytest.fixture(scope="module")
def settings(lab: Lab, key_file: Path) -> dict:
    server = str(lab.name_server.ipv4)
    return {"mail_domain": NAME, "dns_update_server": server, "dns_update_key_file": str(key_file)}


@pytest.fixture(scope="module")
def relay(lab: Lab, settings: dict) -> Iterator[Host]:
    """A host that has a DKIM key, and a name for which a public certificate would be needed."""
    host = lab.add(NAME)
    lab.pillar(NAME, {"chatmail": settings | {"public_addresses": [str(host.ipv4), str(host.ipv6)]}})
    lab.salt_ssh(NAME, "state.apply", "chatmail.opendkim")
    yield host
    for record in lab.salt_ssh(NAME, "chatmail_dns.records"):
        lab.withdraw(record["name"], record["type"])
    lab.remove(NAME)


def call(lab: Lab, function: str) -> tuple[dict, bool]:
    """What a function says that starts at the lab's name server, and whether salt-ssh's exit code is 0."""
    try:
        return lab.salt_ssh(NAME, f"chatmail_dns.{function}", f"start={lab.name_server.ipv4}"), True
    except SaltFailed as error:
        return error.result, False


def test_missing_records_are_published_and_served_and_others_stay(lab: Lab, relay: Host):
    before, succeeded = call(lab, "check")
    missing = {record for record, line in before["required"].items() if line["status"] == "missing"}
    assert {f"{NAME}. MX", f"www.{NAME}. CNAME", f"opendkim._domainkey.{NAME}. TXT"} <= missing
    assert not succeeded

    lab.publish(NAME, "TXT", ['"site=1"'])
    done, succeeded = call(lab, "publish")
    assert missing <= done["published"].keys()
    assert succeeded

    after, succeeded = call(lab, "check")
    assert {line["status"] for line in (after["required"] | after["recommended"]).values()} == {"ok"}
    assert "site=1" in after["recommended"][f"{NAME}. TXT"]["found"]
    assert succeeded

    again, succeeded = call(lab, "publish")
    assert again["published"] == {}
    assert succeeded


def test_the_secret_reaches_neither_the_host_nor_salts_files(lab: Lab, relay: Host):
    done, _ = call(lab, "publish")
    secret = lab.layout.tsig_secret.read_text()
    assert secret not in str(done)
    assert relay.run(["grep", "-rlF", secret, "/etc", "/root", "/tmp", "/var"], check=False).stdout == ""
    files = [path for path in (lab.layout.salt / "run").rglob("*") if path.is_file()]
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_a_key_that_the_server_does_not_know_is_refused_by_name(lab: Lab, relay: Host, settings: dict, tmp_path: Path):
    stranger = tmp_path / "key"
    stranger.touch(0o600)
    stranger.write_text('key "stranger" { algorithm hmac-sha256; secret "c3RyYW5nZXI="; };')
    lab.withdraw(NAME, "MX")
    own = {"public_addresses": [str(relay.ipv4), str(relay.ipv6)]}
    lab.pillar(NAME, {"chatmail": settings | own | {"dns_update_key_file": str(stranger)}})
    answer, succeeded = call(lab, "publish")
    lab.pillar(NAME, {"chatmail": settings | own})
    assert not succeeded
    assert "stranger" in str(answer)
    assert "c3RyYW5nZXI=" not in str(answer)
    assert call(lab, "publish")[1]


def test_the_state_on_the_host_sees_what_is_published(lab: Lab, relay: Host, settings: dict):
    lab.salt_ssh(NAME, "pkg.install", "python3-dnspython")
    rendered = lab.salt_ssh(NAME, "slsutil.renderer", f"string={SETTINGS}", "default_renderer=jinja|json")
    (state,) = lab.salt_ssh(
        NAME, "state.single", "chatmail_dns.published", f"name={NAME}", f"settings={rendered}",
        f"start={lab.name_server.ipv4}",
    ).values()  # fmt: skip
    assert (state["result"], state["changes"]) == (True, {})
