#!/bin/sh
# Makes a key for ssh, and prints its public half; $1 are the lines of known_hosts.
umask 077
mkdir -p /run/chatmail-migrate && cd /run/chatmail-migrate && rm -f key key.pub
ssh-keygen -q -t ed25519 -N '' -C chatmail-migrate -f key
printf '%s\n' "$1" > known_hosts
cat key.pub
