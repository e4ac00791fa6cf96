"""Hosts on which other servers run: each is named with a remedy that works, and with ``takeover`` the apply ends it."""

import base64
import io
import json
import re
import tarfile
from collections.abc import Iterator

import pytest

from test.integration.conftest import PERMISSIVE
from test.integration.test_apply import changed
from test.integration.test_nginx import CONFIG, get, plain_get
from test.lab import Host, Lab, authority
from test.lab.saltconf import SaltFailed
from test.relay.delivery import Relay
from test.salt.minion import CHECKOUT
from test.support.waiting import wait_until

NAME = "taken.test"
ALIASES = [f"{alias}.{NAME}" for alias in ("www", "mta-sts")]
# What somebody else has made of Debian's nginx, and what of it stays where it is.
FOREIGN = {
    CONFIG: "events {}\nhttp { include conf.d/*; include sites-enabled/*; }\n",
    "/etc/nginx/conf.d/limits.conf": "client_max_body_size 99m;\n",
    "/etc/nginx/sites-enabled/shop": "server { listen 80; server_name shop.test; return 200 sold; }\n",
}
# What a host keeps, but for what salt-ssh and the daemons have there.
LASTING = ["/etc", "/home", "/opt", "/root", "/srv", "/usr", "/var"]
PASSING = ["/var/tmp*", "/var/log/*", "/var/spool/exim4/*"]
# Servers of Debian's packages: package, unit, port of the relay's.
SERVERS = [
    # Its unit is made from an init script.
    ("exim4-daemon-light", "exim4", 25),
    ("apache2", "apache2", 80),
    ("haproxy", "haproxy", 443),
    ("caddy", "caddy", 80),
]
HAPROXY = "\nfrontend web\n    mode tcp\n    bind :443\n"
# As Docker holds a port for a container: a program of that name in Docker's unit.
DOCKER = "cp /usr/bin/python3 /run/docker-proxy && systemd-run --unit=docker /run/docker-proxy -m http.server 443"
LOOK = """
import json, sys, types
sys.path[:0] = ["/root/look/utils", "/root/look/modules", sys.argv[1]]
import chatmail_preflight
print(json.dumps(chatmail_preflight.in_the_way(json.loads(sys.argv[2]))))
"""


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Host]:
    host = lab.add(NAME)
    for alias in ALIASES:
        lab.publish(alias, "CNAME", [f"{NAME}."])
    # None is started by its installation, in the others' way.
    host.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode="0755")
    packages = ["nginx", *(package for package, _, _ in SERVERS)]
    host.run(["apt-get", "-qq", "update"], timeout=120)
    host.run(
        ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qqy", "--no-install-recommends", "install", *packages],
        timeout=300,
    )
    host.run(["rm", "/usr/sbin/policy-rc.d", "/etc/nginx/sites-enabled/default"])
    host.write("/etc/haproxy/haproxy.cfg", host.read("/etc/haproxy/haproxy.cfg") + HAPROXY)
    for path, text in FOREIGN.items():
        host.write(path, text)
    yield host
    for alias in ALIASES:
        lab.withdraw(alias, "CNAME")
    lab.remove(NAME)


def settings(**more) -> dict:
    return {"chatmail": {"mail_domain": NAME, "acme_directory_url": authority.DIRECTORY_URL, **PERMISSIVE, **more}}


def listens(host: Host, port: int) -> bool:
    return bool(host.run(["ss", "-Hltn", f"sport = :{port}"]).stdout)


def start(host: Host, unit: str, port: int) -> None:
    host.run(["systemctl", "enable", unit])
    host.run(["systemctl", "start", unit])
    wait_until(lambda: listens(host, port), f"{unit} does not listen")


def test_who_holds_ports_and_whose_configuration_is_there_is_told_all_together(lab, host):
    start(host, "exim4", 25)
    start(host, "nginx", 80)
    lab.pillar(NAME, settings())
    host.run(["touch", "/run/before"])
    with pytest.raises(SaltFailed) as refusal:
        lab.salt_ssh(NAME, "state.apply", "chatmail.preflight")
    said = str(refusal.value)
    assert [path for path in FOREIGN if path not in said] == []
    assert re.search(r"port 25/tcp is needed by postfix, but taken by exim4 .*`, or set `takeover: true`", said)
    assert "nothing on it was changed" in said
    others = [word for path in PASSING for word in ("-not", "-path", path)]
    assert host.run(["find", *LASTING, "-xdev", "-type", "f", "-cnewer", "/run/before", *others]).stdout == ""
    assert "exim4" in host.run(["ss", "-Hltnp", "sport = :25"]).stdout
    host.run(["systemctl", "disable", "nginx"])
    host.run(["systemctl", "stop", "nginx", "exim4"])


@pytest.fixture(scope="module")
def in_the_way(host: Host):
    """Who is in the way on a port, as the preflight sees it on the host."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(CHECKOUT / "_modules", "look/modules")
        tar.add(CHECKOUT / "_utils", "look/utils")
    text = base64.b64encode(archive.getvalue()).decode()
    host.run(["sh", "-c", "base64 -d | tar -x -C /root"], input=text)
    library = host.run(["sh", "-c", "ls -d /var/tmp/.root_*_salt/pyall"]).stdout.split()[0]

    def look(port: int) -> list[dict]:
        argv = ["python3", "-c", LOOK, library, json.dumps({f"{port}/tcp": ["ours"]})]
        return json.loads(host.run(argv).stdout)

    return look


@pytest.mark.parametrize(("unit", "port"), [(unit, port) for _, unit, port in SERVERS])
def test_the_remedy_that_is_printed_ends_the_server_for_good(host, in_the_way, unit, port):
    start(host, unit, port)
    remedies = {one["remedy"] for one in in_the_way(port)}
    assert len(remedies) == 1
    command = re.search("`(.+)`", remedies.pop())[1]
    host.run(["sh", "-c", command])
    assert in_the_way(port) == []
    assert host.run(["systemctl", "is-enabled", unit], check=False).stdout.strip() == "disabled"


def test_a_container_is_named_by_docker_and_docker_itself_is_left_alone(host, in_the_way):
    host.run(["sh", "-c", DOCKER])
    wait_until(lambda: listens(host, 443), "nobody took the port")
    remedies = {one["remedy"] for one in in_the_way(443)}
    host.run(["systemctl", "stop", "docker"])
    assert len(remedies) == 1
    assert "`docker ps --filter publish=443` names the container" in remedies.pop()


def test_with_takeover_one_apply_ends_them_keeps_their_files_and_has_a_certificate(lab, host):
    """nginx goes on with its own configuration until the certificate is there, whose challenges it does not know."""
    start(host, "exim4", 25)
    start(host, "nginx", 80)
    relay = Relay(NAME, str(host.ipv4))
    assert plain_get(relay, "/").status == 200
    lab.pillar(NAME, settings(takeover=True))
    states = lab.salt_ssh(NAME, "state.apply", "chatmail.nginx")
    by_name = {state["__id__"]: state for state in states.values()}
    assert by_name["preflight-ports-free"]["changes"].keys() == {"exim4.service"}
    assert host.run(["systemctl", "is-enabled", "exim4"], check=False).stdout.strip() == "disabled"
    assert not listens(host, 25)
    aside = by_name["preflight-adopted"]["changes"]["/etc/nginx"]["new"].removeprefix("kept aside in ")
    for path, text in FOREIGN.items():
        assert host.read(f"{aside}/{path.removeprefix('/etc/nginx/')}") == text
        assert path == CONFIG or host.read(path) == text
    assert plain_get(relay, "/").status == 301
    assert get(relay).status == 200
    issuer = host.run(["openssl", "x509", "-noout", "-issuer", "-in", f"/var/lib/acme/live/{NAME}/cert"]).stdout
    assert "Pebble" in issuer
    assert changed(lab.salt_ssh(NAME, "state.apply", "chatmail.nginx")) == {}
