#!/bin/sh
# Lets the public key $2 log in as the user $1 for the command $3 alone; without $2, the last such key no more.
# sshd(8), AUTHORIZED_KEYS: the key only lets rsync read.
umask 077
home=$(getent passwd "$1" | cut -d: -f6) && group=$(id -gn "$1") || exit
install -d -m 0700 -o "$1" -g "$group" "$home/.ssh"
cd "$home/.ssh" && touch authorized_keys && chown "$1:$group" authorized_keys
# shellcheck disable=SC1003
sed -i -e '/ chatmail-migrate$/d' -e '$a\' authorized_keys
if [ -n "$2" ]; then
  printf 'restrict,expiry-time="%s",command="%s" %s\n' "$(date -u -d '10 minutes' +%Y%m%d%H%MZ)" "$3" "$2" \
    >> authorized_keys
fi
