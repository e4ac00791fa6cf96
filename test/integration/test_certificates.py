"""Certificates from the lab's authority (Pebble) and the operator's own. The tests tell one story, in order."""

import json
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from test import messages
from test.integration.conftest import PERMISSIVE
from test.integration.mailing import inbox, submit
from test.integration.test_web_server import ask, plain_http
from test.lab import Host, Lab, authority
from test.lab.errors import LabError
from test.lab.saltconf import SaltFailed
from test.relay.delivery import Relay, new_user

DOMAIN = "acme.test"
NAMES = [DOMAIN, f"mta-sts.{DOMAIN}", f"www.{DOMAIN}"]
LIVE = f"/var/lib/acme/live/{DOMAIN}"
# The other records are not what these tests are about.
SETTINGS = {"mail_domain": DOMAIN, "dns_check": False, **PERMISSIVE}


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Host]:
    host = lab.add(DOMAIN)
    for name in NAMES[1:]:
        lab.publish(name, "CNAME", [f"{DOMAIN}."])
    lab.pillar(DOMAIN, {"chatmail": {**SETTINGS, "acme_directory_url": authority.DIRECTORY_URL}})
    yield host
    lab.name_server.run(["systemctl", "start", "pebble"])
    for name in NAMES[1:]:
        lab.withdraw(name, "CNAME")
    lab.remove(DOMAIN)


def start_authority(lab: Lab, *, validity: int = 90 * authority.DAY) -> None:
    """Start the authority anew: with other keys, and without the accounts that it had."""
    lab.name_server.write(f"/{authority.CONFIG}", authority.config(validity))
    lab.name_server.run(["systemctl", "restart", "pebble"])
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection((str(lab.name_server.ipv4), 14000), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "Pebble does not listen"
            time.sleep(0.05)


def stop_authority(lab: Lab) -> None:
    lab.name_server.run(["systemctl", "stop", "pebble"])


def served(lab: Lab, host: Host, name: str) -> dict:
    """The certificate on port 993, verified for ``name`` by the authority's root as any client would."""
    fetch = "import ssl, urllib.request as r; c = ssl._create_unverified_context(); "
    fetch += "print(r.urlopen('https://localhost:15000/roots/0', context=c).read().decode())"
    context = ssl.create_default_context(cadata=lab.name_server.run(["python3", "-c", fetch]).stdout)
    with (
        socket.create_connection((str(host.ipv4), 993), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        return tls.getpeercert()


def public_key(host: Host) -> str:
    return host.run(["openssl", "x509", "-noout", "-pubkey", "-in", f"{LIVE}/cert"]).stdout


def serial(host: Host) -> str:
    return host.run(["openssl", "x509", "-noout", "-serial", "-in", f"{LIVE}/cert"]).stdout


def test_who_has_taken_the_challenge_port_is_named_before_anything_is_changed(lab, host):
    host.run(["systemd-run", "--unit=squatter", "python3", "-m", "http.server", "80"])
    deadline = time.monotonic() + 10
    while ":80 " not in host.run(["ss", "-ltn"]).stdout:
        assert time.monotonic() < deadline, "nobody took the port"
        time.sleep(0.1)
    with pytest.raises(SaltFailed, match=r"80/tcp is needed by nginx, but taken by python3.*squatter\.service"):
        lab.salt_ssh(DOMAIN, "state.apply", "chatmail.tls")
    host.run(["systemctl", "stop", "squatter"])
    assert host.run(["test", "-e", "/usr/bin/acmetool"], check=False).returncode


def test_an_authority_that_is_down_is_named_and_nothing_is_half_done(lab, host):
    stop_authority(lab)
    with pytest.raises(SaltFailed, match=rf"does not answer at {authority.DIRECTORY_URL}: .*refused"):
        lab.salt_ssh(DOMAIN, "state.apply", "chatmail.tls")
    assert host.run(["test", "-e", LIVE], check=False).returncode


def test_the_next_apply_ends_with_a_certificate_that_all_daemons_serve(lab, host):
    start_authority(lab)
    # The authority has published other terms since.
    host.write("/var/lib/acme/conf/responses", '{"acme-agreement:https://ca.test/terms-of-2024.pdf": true}')
    lab.salt_ssh(DOMAIN, "state.apply", "chatmail")
    for name in NAMES:
        served(lab, host, name)
    shown = lab.salt_ssh(DOMAIN, "chatmail_cert.show")
    ports = next(
        places for line, places in shown.items() if line.startswith(f"{', '.join(NAMES)}; issued by CN=Pebble")
    )
    assert {"25 postfix", "465 postfix", "587 postfix", "143 dovecot", "993 dovecot"} <= set(ports)
    account = lab.salt_ssh(DOMAIN, "chatmail_cert.acme_account")
    assert account.startswith("https://ns.test:14000/")


def test_a_second_apply_changes_nothing_though_the_authority_is_down(lab, host):
    stop_authority(lab)
    states = lab.salt_ssh(DOMAIN, "state.apply", "chatmail.tls")
    assert [state["__id__"] for state in states.values() if state["changes"]] == []


def test_browsers_come_by_https_alone_and_apps_make_an_address_with_one_link(host):
    relay = Relay(DOMAIN, str(host.ipv4))
    for path, name in (("/", DOMAIN), ("/nothing", DOMAIN), ("/new", DOMAIN), ("/info", f"www.{DOMAIN}")):
        assert ask(relay, path, host=name).headers.get_all("Strict-Transport-Security") == ["max-age=31536000"]
    redirect = ask(relay, "/info", host=f"www.{DOMAIN}")
    assert (redirect.status, redirect.headers["Location"]) == (301, f"https://{DOMAIN}/info")
    assert f'class="button" href="DCACCOUNT:https://{DOMAIN}/new"' in ask(relay, "/").body
    # Who opens that address in a browser is sent to the app, which asks itself.
    redirect = ask(relay, "/new?invite=abc")
    assert (redirect.status, redirect.headers["Location"]) == (301, f"dcaccount:https://{DOMAIN}/new?invite=abc")
    assert json.loads(ask(relay, "/new", "POST").body).keys() == {"email", "password"}
    # RFC 6797 section 7.2.
    assert "Strict-Transport-Security" not in plain_http(relay, "/").headers


def test_a_renewal_keeps_the_key_the_sessions_and_the_mail(lab, host):
    relay = Relay(DOMAIN, str(host.ipv4))
    alice = new_user(relay)
    # A certificate of nine seconds is due after six.
    start_authority(lab, validity=9)
    host.run(["rm", "-r", "/var/lib/acme/certs"])
    host.run(["systemctl", "start", "acmetool.service"], timeout=120)
    short, key = serial(host), public_key(host)
    with alice.imap() as session:
        stop_authority(lab)
        time.sleep(6.5)
        with pytest.raises(LabError):
            host.run(["systemctl", "start", "acmetool.service"], timeout=120)
        assert serial(host) == short
        assert "refused" in host.run(["journalctl", "--unit=acmetool", "--no-pager"]).stdout

        start_authority(lab)
        host.run(["systemctl", "start", "acmetool.service"], timeout=120)
        assert serial(host) != short
        assert public_key(host) == key
        days = (ssl.cert_time_to_seconds(served(lab, host, DOMAIN)["notAfter"]) - time.time()) / authority.DAY
        assert days > 80
        assert submit(alice, alice.address, messages.encrypted(alice.address, alice.address)) is None
        assert len(inbox(alice)) == 1
        # The session from before the renewal lives on.
        assert session.select() == 1


OWN = "/etc/letsencrypt/live/own"


def put_own(lab: Lab, host: Host, version: int) -> str:
    """Let a pair of the operator's take the place of the earlier one by symbolic links, as certbot does it."""
    cert, key = f"/etc/letsencrypt/archive/cert{version}.pem", f"/etc/letsencrypt/archive/key{version}.pem"
    lab.salt_ssh(DOMAIN, "state.single", "chatmail_cert.self_signed", cert, f"key={key}", f"alt_names=[{DOMAIN}]")
    host.run(["mkdir", "-p", OWN])
    host.run(["ln", "-sfn", cert, f"{OWN}/cert.pem"])
    host.run(["ln", "-sfn", key, f"{OWN}/key.pem"])
    return host.read(cert).strip()


def test_the_daemons_read_an_operators_certificate_again_when_its_links_are_pointed_elsewhere(lab, host):
    ports = (465, 993)
    first = put_own(lab, host, 1)
    pillar = {**SETTINGS, "tls_external_cert_and_key": f"{OWN}/cert.pem {OWN}/key.pem"}
    lab.pillar(DOMAIN, {"chatmail": pillar})
    lab.salt_ssh(DOMAIN, "state.apply", "chatmail")
    assert {ssl.get_server_certificate((str(host.ipv4), port)).strip() for port in ports} == {first}
    assert host.run(["systemctl", "is-enabled", "acmetool.timer"], check=False).stdout.strip() == "disabled"

    second = put_own(lab, host, 2)
    deadline = time.monotonic() + 60
    while {ssl.get_server_certificate((str(host.ipv4), port)).strip() for port in ports} != {second}:
        assert time.monotonic() < deadline, "the old certificate is still served"
        time.sleep(0.5)
