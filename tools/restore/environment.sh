#!/bin/sh
# Goes before other scripts: lets restic know the repository $1, its password in the file $2, and what its place wants,
# which systemd reads, as for the relay's own backup.
set -e
repository=$1 password_file=$2
restic() {
  systemd-run --quiet --pipe --wait --collect --property=EnvironmentFile=-/etc/chatmail/backup.env \
    --setenv=RESTIC_REPOSITORY="$repository" --setenv=RESTIC_PASSWORD_FILE="$password_file" \
    --setenv=RESTIC_CACHE_DIR=/var/cache/chatmail-backup --setenv=HOME=/root \
    restic --quiet "$@"
}
export STAGING=/var/lib/chatmail-restore
