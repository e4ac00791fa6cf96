#!/bin/sh
# Reads the newest backup of the relay $3 to where `place` takes it from, and verifies what was written.
mkdir -p /etc/chatmail && touch /etc/chatmail/restoring && sync /etc/chatmail
rm -rf "$STAGING" && mkdir -m 0700 "$STAGING"
restic restore latest --verify --host "$3" --tag chatmail --target "$STAGING/chatmail"
if restic snapshots --json --host "$3" --tag mail | grep -q '"id"'; then
  restic restore latest --verify --host "$3" --tag mail --target "$STAGING/mail"
fi
sync --file-system "$STAGING"
