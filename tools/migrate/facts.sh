#!/bin/sh
# Prints, as JSON, what the last apply has left; nothing on a host that is no relay.
test -e /etc/chatmail/relay.json || exit 0
PYTHONPATH=/usr/local/lib/chatmaild python3 -P -c '
import json
from chatmaild import invites
with open("/etc/chatmail/relay.json") as file:
    settings = json.load(file)["settings"] | {"invites_dir": str(invites.DIRECTORY)}
names = "mail_domain", "ipv4_relay", "mailboxes_dir", "passdb_path", "invites_dir", "tls_cert_path", "tls_key_path"
print(json.dumps({name: settings[name] or "" for name in names}))'
