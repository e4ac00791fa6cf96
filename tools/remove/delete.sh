#!/bin/sh
# Deletes the paths "$@", and what is left of units and settings that are gone with them.
rm -rf -- "$@" || exit
find /etc/systemd/system -type d -name '*.d' -empty -delete
sed -i '/^TZ=:\/etc\/localtime$/d' /etc/environment
systemctl daemon-reload
systemctl reset-failed
systemctl restart systemd-journald
