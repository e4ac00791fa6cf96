#!/bin/sh
# Undoes close.sh for the units "$@"; an apply starts them.
systemctl --quiet disable --now chatmail-moved.socket 2> /dev/null
rm -f /etc/systemd/system/chatmail-moved* /etc/chatmail/moved
systemctl --quiet unmask -- "$@" 2> /dev/null
systemctl daemon-reload
