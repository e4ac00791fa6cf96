#!/bin/sh
# Stops the units "$@" for good: a later boot, package or apply does not bring them back.
# Unit files of ours, in /etc, cannot be masked.
if postfix status 2> /dev/null; then systemctl stop postfix || exit; fi
systemctl --quiet disable --now -- "$@" 2> /dev/null
for unit; do
  shift
  if systemctl --quiet is-active -- "$unit"; then echo "$unit does not stop" >&2; exit 1; fi
  case $(systemctl show --property=FragmentPath --value -- "$unit") in
    (/etc/*) ;;
    (*) set -- "$@" "$unit" ;;
  esac
done
if [ $# -gt 0 ]; then systemctl --quiet mask -- "$@" || exit; fi
cat > /etc/systemd/system/chatmail-moved.socket << END
[Unit]
Description=Ports for mail of a relay that moves to another host
[Socket]
ListenStream=25
ListenStream=587
Accept=yes
MaxConnections=64
TriggerLimitIntervalSec=0
[Install]
WantedBy=sockets.target
END
cat > /etc/systemd/system/chatmail-moved@.service << 'END'
[Unit]
Description=Asks to try again later (RFC 5321 section 3.8)
CollectMode=inactive-or-failed
[Service]
ExecStart=/usr/bin/echo -ne "421 4.3.2 This relay moves to another host, try again in a few minutes\r\n"
StandardOutput=socket
DynamicUser=yes
END
systemctl daemon-reload && systemctl --quiet enable --now chatmail-moved.socket
