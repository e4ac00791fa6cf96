#!/bin/sh
# Stops and disables the units "$@"; the name servers of a host that asked its own resolver are $1 from now on.
resolver=$1
shift
# First: from here on nobody asks unbound.
systemctl --quiet unmask systemd-resolved
if grep -qs 'Managed by chatmail-formula' /etc/resolv.conf; then
  if [ -e /lib/systemd/system/systemd-resolved.service ]; then
    systemctl stop unbound 2> /dev/null
    systemctl --quiet enable --now systemd-resolved || exit
    ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
  else
    printf 'nameserver %s\n' "$resolver" > /etc/resolv.conf
  fi
fi
systemctl --quiet disable --now -- "$@" 2> /dev/null
for unit; do
  if systemctl --quiet is-active -- "$unit"; then echo "$unit does not stop" >&2; exit 1; fi
done
systemctl --quiet unmask postfix dovecot 2> /dev/null
exit 0
