#!/bin/sh
# Goes before other scripts: lets restic know the repository $1, its password in the file $2, and what its place wants.
set -e
# shellcheck disable=SC1091
if [ -e /etc/chatmail/backup.env ]; then set -a; . /etc/chatmail/backup.env; set +a; fi
export RESTIC_REPOSITORY="$1" RESTIC_PASSWORD_FILE="$2" RESTIC_CACHE_DIR=/var/cache/chatmail-backup
export STAGING=/var/lib/chatmail-restore
