"""Certificates from the lab's authority (Pebble) and the operator's own. The tests tell one story, in order."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import chatmail_x509
import chatmail_zone
from test.integration.conftest import PERMISSIVE
from test.integration.test_account_link import scanned
from test.integration.test_secrets import survey_of
from test.integration.test_web_server import ask, plain_http
from test.lab import Host, Lab, authority
from test.lab.errors import LabError
from test.lab.saltconf import SaltFailed
from test.relay import chat
from test.relay.delivery import Relay, new_user
from test.relay.errors import RelayError
from test.support import messages
from test.support.firewall import closed
from test.support.leaks import apply_aloud, assert_nowhere, telling
from test.support.mailing import inbox, submit
from test.support.waiting import wait_until

DOMAIN = "acme.test"
NAMES = [DOMAIN, f"mta-sts.{DOMAIN}", f"www.{DOMAIN}"]
LIVE = f"/var/lib/acme/live/{DOMAIN}"
# The other records are not what these tests are about.
SETTINGS = {"mail_domain": DOMAIN, "dns_check": False, **PERMISSIVE}

# What other deployments of a relay have left on the host: texts by path.
UNIT = "[Service]\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
REMNANTS = {
    "/etc/cron.d/acmetool": "# renew\n",
    "/etc/cron.d/chatmail-metrics": "# count\n",
    "/etc/cron.d/expunge": "# expire\n",
    "/etc/acme/hooks/nginx": "#!/bin/sh\nexit 42\n",
    "/usr/lib/acme/hooks/nginx": "#!/bin/sh\nexit 42\n",
    f"/var/lib/acme/desired/{DOMAIN}-l4y6": f"satisfy:\n  names: [{DOMAIN}]\n",
    "/etc/apt/keyrings/obs-home-deltachat.gpg": "key\n",
    "/etc/apt/preferences.d/pin-dovecot": "Package: dovecot-core\nPin: version 9\nPin-Priority: 1001\n",
    "/etc/systemd/system/dovecot.service.d/10_restart.conf": "[Service]\nRestartSec=30\n",
    "/etc/systemd/system/postfix@.service.d/10_restart.conf": "[Service]\nRestartSec=30\n",
    "/var/www/html/metrics": "accounts 1\n",
    "/root/from-cmdeploy/remote.py": "pass\n",
    "/usr/local/lib/postfix-mta-sts-resolver/python": "python\n",
} | {
    f"/etc/systemd/system/{unit}": UNIT
    for unit in (
        "acmetool-reconcile.service",
        "acmetool-redirector.service",
        "doveauth-dictproxy.service",
        "filtermail-transport.service",
        "mta-sts-daemon.service",
        "tls-cert-reload.service",
        "turnserver.service",
    )
}


def leave_remnants(host: Host) -> None:
    for path, text in REMNANTS.items():
        host.write(path, text)
    host.run(["sh", "-c", "systemctl daemon-reload && systemctl start turnserver"])
    gone = "deb [signed-by=/etc/apt/keyrings/obs-home-deltachat.gpg] http://gone.test/none bookworm main\n"
    host.write("/etc/apt/sources.list", gone + host.read("/etc/apt/sources.list"))
    control = "Package: rspamd\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n"
    host.write("/opt/rspamd/DEBIAN/control", control)
    host.run(["sh", "-c", "dpkg-deb --build /opt/rspamd /opt/rspamd.deb && dpkg --install /opt/rspamd.deb"])


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Host]:
    host = lab.add(DOMAIN, packages=True)
    leave_remnants(host)
    for name in NAMES[1:]:
        lab.publish(name, "CNAME", [f"{DOMAIN}."])
    acme = {"acme_directory_url": authority.DIRECTORY_URL, "acme_email": "operator@acme.test"}
    lab.pillar(DOMAIN, {"chatmail": SETTINGS | acme})
    yield host
    lab.name_server.run(["systemctl", "start", "pebble"])
    for name in NAMES[1:]:
        lab.withdraw(name, "CNAME")
    lab.remove(DOMAIN)


def start_authority(lab: Lab, **config) -> None:
    """Start the authority again (``config`` as for it): with other keys, and without the accounts that it had."""
    lab.name_server.write(f"/{authority.CONFIG}", authority.config(**config))
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


@contextmanager
def connection(lab: Lab, host: Host, name: str, port: int) -> Iterator[ssl.SSLSocket]:
    """TLS with a certificate that is verified for ``name`` by the authority's root, as any client would."""
    fetch = "import ssl, urllib.request as r; c = ssl._create_unverified_context(); "
    fetch += "print(r.urlopen('https://localhost:15000/roots/0', context=c).read().decode())"
    context = ssl.create_default_context(cadata=lab.name_server.run(["python3", "-c", fetch]).stdout)
    with (
        socket.create_connection((str(host.ipv4), port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        yield tls


def served(lab: Lab, host: Host, name: str) -> dict:
    with connection(lab, host, name, 993) as tls:
        return tls.getpeercert()


def asked_at(lab: Lab, host: Host, link: str) -> str:
    """The login that the relay makes up when it is asked as the core asks by an account link, certificate verified."""
    assert link == f"DCACCOUNT:https://{DOMAIN}/new"
    client = http.client.HTTPSConnection(DOMAIN)
    with connection(lab, host, DOMAIN, 443) as client.sock:
        client.request("POST", "/new")
        login = json.loads(client.getresponse().read())
    return chat.login_uri(login["email"], login["password"], DOMAIN)


def public_key(host: Host) -> str:
    return host.run(["openssl", "x509", "-noout", "-pubkey", "-in", f"{LIVE}/cert"]).stdout


def serial(host: Host) -> str:
    return host.run(["openssl", "x509", "-noout", "-serial", "-in", f"{LIVE}/cert"]).stdout


def test_who_has_taken_the_challenge_port_is_named_before_anything_is_changed(lab, host):
    host.run(["systemd-run", "--unit=squatter", "python3", "-m", "http.server", "80"])
    wait_until(lambda: ":80 " in host.run(["ss", "-ltn"]).stdout, "nobody took the port")
    with pytest.raises(SaltFailed, match=r"80/tcp is needed by nginx, but taken by python3.*squatter\.service"):
        lab.salt_ssh(DOMAIN, "state.apply", "chatmail.tls")
    host.run(["systemctl", "stop", "squatter"])
    assert host.run(["test", "-e", "/usr/bin/acmetool"], check=False).returncode


def test_an_authority_that_is_down_is_named_and_nothing_is_half_done(lab, host):
    stop_authority(lab)
    with pytest.raises(SaltFailed, match=rf"does not answer at {authority.DIRECTORY_URL}: .*refused"):
        lab.salt_ssh(DOMAIN, "state.apply", "chatmail.tls")
    assert host.run(["test", "-e", LIVE], check=False).returncode


def test_a_closed_port_80_is_named_before_the_authority_is_asked(lab, host):
    start_authority(lab)
    with closed(host, tcp=[80]), pytest.raises(SaltFailed) as failure:
        lab.salt_ssh(DOMAIN, "state.apply", "chatmail.tls")
    where = f"port 80 of {host.ipv4} and {host.ipv6}, to where the DNS leads {DOMAIN}"
    assert f"{where}, is closed from outside (no answer)" in str(failure.value)
    assert host.run(["sh", "-c", "ls /var/lib/acme/accounts/*"], check=False).returncode


def test_a_caa_record_that_forbids_the_certificate_is_named(lab, host):
    # Pebble looks for no CAA record. It has another reason to refuse the name, and the host finds the record.
    start_authority(lab, refused=[DOMAIN])
    other = "ca.example;accounturi=https://ca.example/acct/1"
    lab.publish(DOMAIN, "CAA", [f'0 issue "{other}"'])
    with pytest.raises(SaltFailed) as failure:
        lab.salt_ssh(DOMAIN, "state.apply", "chatmail.tls")
    lab.withdraw(DOMAIN, "CAA")
    account = lab.salt_ssh(DOMAIN, "chatmail_cert.acme_account")
    said = str(failure.value)
    assert f"the CAA record of {DOMAIN} forbids it: only {other} may issue, and this account is {account}. " in said
    assert f'Remove the record, or replace it by 0 issue "ca.example;accounturi={account}"' in said


def test_the_next_apply_ends_with_a_certificate_that_all_daemons_serve(lab, host):
    start_authority(lab)
    # The authority has published other terms since.
    host.write("/var/lib/acme/conf/responses", '{"acme-agreement:https://ca.test/terms-of-2024.pdf": true}')
    lab.salt_ssh(DOMAIN, "state.apply", "chatmail")
    for name in NAMES:
        served(lab, host, name)
    shown = lab.salt_ssh(DOMAIN, "chatmail_cert.show")
    ours = next(one for one in shown["certificates"] if one["names"] == NAMES and one["issuer"].startswith("CN=Pebble"))
    assert {25, 465, 587, 143, 993} <= {place["port"] for place in ours["places"]}
    account = lab.salt_ssh(DOMAIN, "chatmail_cert.acme_account")
    assert account.startswith("https://ns.test:14000/")
    assert host.run(["systemctl", "is-active", "acmetool.timer"]).stdout == "active\n"


def test_nobody_reads_the_account_and_the_keys(host):
    secrets = ["/var/lib/acme/accounts/*/*/privkey", "/var/lib/acme/keys/*/privkey"]
    assert survey_of(host, secrets) == {"strange": {}, "told": []}


def test_the_mta_sts_policy_is_served_under_its_own_name(lab, host):
    name = f"mta-sts.{DOMAIN}"
    with connection(lab, host, name, 443) as tls:
        tls.sendall(f"GET /.well-known/mta-sts.txt HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
        answer = tls.makefile("rb").read().decode()
    header, _, policy = answer.partition("\r\n\r\n")
    assert header.startswith("HTTP/1.1 200")
    assert policy.splitlines() == chatmail_zone.mta_sts_policy(DOMAIN).splitlines()


def test_what_other_deployments_have_left_is_gone(host):
    left = {path for path in REMNANTS if host.run(["test", "-e", path], check=False).returncode == 0}
    assert left == set()
    assert host.run(["systemctl", "is-active", "turnserver"], check=False).stdout == "inactive\n"
    assert "obs-home-deltachat" not in host.read("/etc/apt/sources.list")
    assert "Status: install ok" not in host.run(["dpkg", "--status", "rspamd"], check=False).stdout


def test_delta_chats_core_sets_itself_up_by_the_code_but_for_the_authority_that_it_does_not_know(lab, host, tmp_path):
    """Its roots are built in and the lab's authority is not one of them: that is all that is in the way."""
    link = scanned(Relay(DOMAIN, str(host.ipv4)))
    with (
        pytest.raises(RelayError, match="UnknownIssuer"),
        chat.clients([("judy", DOMAIN)], lab.resolver_argv, tmp_path, lambda _: link),
    ):
        pass
    who = [("judy", DOMAIN), ("kevin", DOMAIN)]
    with chat.clients(who, lab.resolver_argv, tmp_path, lambda _: asked_at(lab, host, link)) as (judy, kevin):
        judy_chat, kevin_chat = chat.make_contact(judy, kevin)
        assert len(chat.round_trips(judy, judy_chat, kevin, kevin_chat, 1)) == 1


def test_a_second_apply_changes_nothing_though_the_authority_is_down(lab, host):
    stop_authority(lab)
    states, printed = apply_aloud(lab, DOMAIN)
    assert [state["__id__"] for state in states.values() if state["changes"]] == []
    keys = host.run(["sh", "-c", "ls /var/lib/acme/keys/*/privkey /var/lib/acme/accounts/*/*/privkey"]).stdout.split()
    assert len(keys) == 2, keys
    assert_nowhere(lab, host, [telling(host.read(path)) for path in keys], printed)
    states = lab.salt_ssh(DOMAIN, "state.apply", "chatmail", "test=True")
    assert [state["__id__"] for state in states.values() if state["result"] is not True] == []


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


def put_own(host: Host, version: int) -> str:
    """Let a pair of the operator's take the place of the earlier one by symbolic links, as certbot does it."""
    certificate, key = chatmail_x509.make([DOMAIN], datetime.now(UTC))
    pem = certificate.public_bytes(Encoding.PEM).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    host.run(["mkdir", "-p", OWN])
    for name, text, mode in (("cert.pem", pem, "0644"), ("key.pem", private, "0600")):
        host.write(f"{OWN}/{version}-{name}", text, mode=mode)
        host.run(["ln", "-sfn", f"{version}-{name}", f"{OWN}/{name}"])
    return pem.strip()


def test_the_daemons_read_an_operators_certificate_again_when_its_links_are_pointed_elsewhere(lab, host):
    ports = (443, 465, 993)
    first = put_own(host, 1)
    pillar = {**SETTINGS, "tls_external_cert_and_key": f"{OWN}/cert.pem {OWN}/key.pem"}
    lab.pillar(DOMAIN, {"chatmail": pillar})
    lab.salt_ssh(DOMAIN, "state.apply", "chatmail.dovecot,chatmail.nginx,chatmail.postfix")
    assert {ssl.get_server_certificate((str(host.ipv4), port)).strip() for port in ports} == {first}
    assert host.run(["systemctl", "is-enabled", "acmetool.timer"], check=False).stdout.strip() == "disabled"

    second = put_own(host, 2)

    def served() -> set[str]:
        return {ssl.get_server_certificate((str(host.ipv4), port)).strip() for port in ports}

    wait_until(lambda: served() == {second}, "the old certificate is still served")
