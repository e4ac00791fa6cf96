"""The lab's certificate authority: Pebble, an ACME server for tests (RFC 8555), on the host `ns`."""

import json
from collections.abc import Sequence

from test.lab.commands import run
from test.lab.layout import NAME_SERVER, Layout, dns_name

SERVER = dns_name(NAME_SERVER).removesuffix(".")
DIRECTORY_URL = f"https://{SERVER}:14000/dir"
CONFIG = "etc/pebble/config.json"
DAY = 86400


def make_server_pair(layout: Layout) -> None:
    """Make key and self-signed certificate of Pebble's own https server, if the lab has none."""
    if not layout.authority_cert.exists():
        layout.authority_cert.parent.mkdir(mode=0o700, exist_ok=True)
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        argv += ["-days", "3650", "-subj", f"/CN={SERVER}", "-addext", f"subjectAltName=DNS:{SERVER}"]
        run([*argv, "-keyout", str(layout.authority_key), "-out", str(layout.authority_cert)])


def config(validity: int = 90 * DAY, refused: Sequence[str] = ()) -> str:
    """Pebble's configuration; its certificates are valid for `validity` seconds, names in `refused` get none."""
    values = {
        "listenAddress": "[::]:14000",
        "managementListenAddress": "[::]:15000",
        "certificate": "/etc/pebble/cert.pem",
        "privateKey": "/etc/pebble/key.pem",
        "httpPort": 80,
        "tlsPort": 443,
        "certificateValidityPeriod": validity,
        "domainBlocklist": list(refused),
    }
    return json.dumps({"pebble": values}, indent=2)


def server_files(layout: Layout) -> dict[str, str]:
    """Pebble's files, by path on the name server's host."""
    # Without random delays and refused nonces: tests ask for one thing at a time.
    unit = """\
[Unit]
After=knot.service
[Service]
Environment=PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0
ExecStart=/usr/bin/pebble -config /etc/pebble/config.json
"""
    return {
        CONFIG: config(),
        "etc/pebble/cert.pem": layout.authority_cert.read_text(),
        "etc/pebble/key.pem": layout.authority_key.read_text(),
        "etc/systemd/system/pebble.service": unit,
        "etc/systemd/system/multi-user.target.d/lab.conf": "[Unit]\nWants=pebble.service\n",
    }


def trust_files(layout: Layout) -> dict[str, str]:
    """What makes a host trust that server, by path in it: a file named as openssl-rehash(1) would name a link to it."""
    name = run(["openssl", "x509", "-noout", "-hash", "-in", str(layout.authority_cert)]).strip()
    return {f"etc/ssl/certs/{name}.0": layout.authority_cert.read_text()}
