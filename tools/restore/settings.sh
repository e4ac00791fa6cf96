#!/bin/sh
# Prints, as JSON, settings that the last apply has left.
exec python3 -c '
import json
settings = json.load(open("/etc/chatmail/relay.json"))["settings"]
names = "mail_domain", "mailboxes_dir", "backup_password_file"
print(json.dumps({name: settings[name] for name in names}))'
