"""Records are published from the controller to the lab's name server within an apply; the keys stay where they are."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from test.lab import Host, Lab
from test.lab.saltconf import SaltFailed
from test.support.leaks import apply_aloud, assert_nowhere, telling

NAME = "names.test"
PILLAR = {"mail_domain": NAME}
KEY = "/etc/ssl/private/mailserver.key"


@pytest.fixture(scope="module")
def own(lab: Lab) -> Iterator[tuple[Host, dict]]:
    """A host with a name for which a public certificate would be needed, and its settings; DNS alone is applied."""
    host = lab.add(NAME)
    settings = PILLAR | {"public_addresses": [str(host.ipv4), str(host.ipv6)]}
    lab.pillar(NAME, {"chatmail": settings})
    yield host, settings
    for record in lab.salt_ssh(NAME, "chatmail_dns.records"):
        lab.withdraw(record["name"], record["type"])
    lab.remove(NAME)


def call(lab: Lab, function: str, *args: str) -> tuple[dict, bool]:
    """What a function returns, and whether salt-ssh's exit code is 0."""
    try:
        return lab.salt_ssh(NAME, function, *args), True
    except SaltFailed as error:
        return error.result, False


def state(result: dict, identifier: str) -> dict | None:
    return next((one for one in result.values() if one["__id__"] == identifier), None)


def test_one_apply_of_a_bare_host_has_published_its_records(lab: Lab, one_host: Host):
    checked = lab.salt_ssh(one_host.name, "chatmail_dns.check")
    assert f"opendkim._domainkey.{one_host.name}. TXT" in checked["required"]
    assert {line["status"] for line in (checked["required"] | checked["recommended"]).values()} == {"ok"}


def test_a_check_is_read_at_a_glance(lab: Lab, two_host: Host):
    argv = [word for word in lab.salt_ssh_argv(two_host.name, "chatmail_dns.check") if not word.startswith("--out")]
    shown = subprocess.run(argv, cwd=lab.layout.checkout, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    lines = shown.stdout.decode().splitlines()
    assert (lines[0], lines[-1]) == ("Required", "All required records are right.")
    assert {line[:3] for line in lines} >= {"✓ A", "✓ M", "✓ T"}
    assert not [line for line in lines if line.startswith(("✗", "!")) or len(line) > 74]


def test_without_a_key_an_apply_stops_at_the_initial_records_with_all_that_is_to_be_entered(lab: Lab, own):
    host, settings = own
    lab.pillar(NAME, {"chatmail": settings | {"dns_update_server": None, "dns_update_key_file": None}})
    result, succeeded = call(lab, "state.apply", "chatmail.dns,chatmail.opendkim")
    assert not succeeded
    comment = state(result, "dns-initial")["comment"]
    entered = comment.partition("Enter at the provider")[2]
    assert all(f"{name}.{NAME}." in entered for name in ("www", "mta-sts", "_mta-sts", "opendkim._domainkey", "_dmarc"))
    assert f"IN MX    10 {NAME}." in entered
    assert "Then apply again" in comment
    assert state(result, "dns-published") is None
    assert host.run(["test", "-e", "/usr/sbin/opendkim"], check=False).returncode == 1


def test_with_a_key_the_next_apply_goes_on_and_others_records_stay(lab: Lab, own):
    _, settings = own
    lab.pillar(NAME, {"chatmail": settings})
    lab.publish(NAME, "TXT", ['"site=1"'])
    planned, _ = call(lab, "state.apply", "chatmail.dns,chatmail.opendkim", "test=True")
    assert state(planned, "dns-initial")["result"] is None
    assert f"www.{NAME}. CNAME" in state(planned, "dns-initial")["changes"]

    done, succeeded = call(lab, "state.apply", "chatmail.dns,chatmail.opendkim")
    assert succeeded
    assert state(done, "dns-initial")["changes"].keys() == {f"www.{NAME}. CNAME", f"mta-sts.{NAME}. CNAME"}
    assert f"opendkim._domainkey.{NAME}. TXT" in state(done, "dns-published")["changes"]

    after, succeeded = call(lab, "chatmail_dns.check")
    assert succeeded
    assert {line["status"] for line in (after["required"] | after["recommended"]).values()} == {"ok"}
    assert "site=1" in after["recommended"][f"{NAME}. TXT"]["found"]

    again, succeeded = call(lab, "state.apply", "chatmail.dns")
    assert succeeded
    assert [one["changes"] for one in again.values() if one["changes"]] == []


def test_a_key_that_the_server_does_not_know_is_refused_by_name(lab: Lab, own, tmp_path: Path):
    _, settings = own
    stranger = tmp_path / "key"
    stranger.touch(0o600)
    stranger.write_text('key "stranger" { algorithm hmac-sha256; secret "c3RyYW5nZXI="; };')
    lab.withdraw(NAME, "MX")
    lab.pillar(NAME, {"chatmail": settings | {"dns_update_key_file": str(stranger)}})
    for function, *args in (("chatmail_dns.publish",), ("state.apply", "chatmail.dns")):
        answer, succeeded = call(lab, function, *args)
        assert not succeeded
        assert "stranger" in str(answer)
        assert "c3RyYW5nZXI=" not in str(answer)
    lab.pillar(NAME, {"chatmail": settings})
    assert call(lab, "chatmail_dns.publish")[1]


def test_no_secret_is_printed_or_kept_by_salt(lab: Lab, applied, one_host: Host):
    """TSIG secret, DKIM and TLS private keys, TURN's secret; those of ACME are in test_certificates."""
    tsig = lab.layout.tsig_secret.read_text()
    files = ("/etc/dkimkeys/opendkim.private", KEY, "/etc/chatmail/turn-secret")
    secrets = [tsig, *(telling(one_host.read(path)) for path in files)]
    again, printed = apply_aloud(lab, one_host.name)
    assert_nowhere(lab, one_host, secrets, str(applied[one_host.name].states) + str(again) + printed)
    # The secret that signs updates is nowhere on the host.
    assert one_host.run(["grep", "-rlF", tsig, "/etc", "/var", "/home", "/usr/local"], check=False).stdout == ""
