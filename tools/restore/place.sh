#!/bin/sh
# Puts what `fetch` has read into its place, all or, in a further run, the rest; $1 is the directory of the mailboxes.
# Owners have other numbers here. What is not vmail's is root's until the apply says whose it is.
set -e
cd /var/lib/chatmail-restore
mkdir -p queue
if [ -d mail/var/spool/postfix ]; then mv mail/var/spool/postfix queue/; fi
rm -f chatmail/etc/chatmail/relay.json
for kind in chatmail mail; do
  if [ ! -d "$kind" ]; then continue; fi
  chown -hR root:root "$kind"
  if [ -d "$kind$1" ]; then chown -hR vmail:vmail "$kind$1"; fi
  # Directories that are there keep their owners and modes.
  tar -C "$kind" -cf - . | tar -C / --no-overwrite-dir -xpf -
  rm -rf "$kind"
done
sync --file-system "$1"
sync
find "$1" -mindepth 1 -maxdepth 1 -type d -name '*@*' | wc -l | sed 's/$/ addresses are there/'
rm /etc/chatmail/restoring
