#!/bin/sh
# Prints what a relay has on this host: a kind and a name a line. Nothing where there is no trace of this formula.
marker='Managed by chatmail-formula'
there() {
  kind=$1
  shift
  for path; do
    if [ -e "$path" ] || [ -L "$path" ]; then printf '%s %s\n' "$kind" "$path"; fi
  done
}
# A daemon is the relay's where its configuration $1 is: then print its packages $2, and the paths that these may leave.
daemon() {
  grep -qs "$marker" "$1" || return
  packages=$2
  shift 2
  there path "$@"
  set -f
  for package in $packages; do
    dpkg-query --show --showformat='${db:Status-Abbrev} package ${Package}\n' "$package" 2> /dev/null |
      sed -n 's/^.[^n]. //p'
  done
  set +f
}
# A checkout on the host itself (docs/applying.md) is the operator's.
files=$(grep -rlIs --exclude-dir=chatmail-formula "$marker" /etc /usr/local)
if [ -z "$files" ] && [ ! -e /etc/chatmail ]; then exit 0; fi
python3 -c '
import json, os, sys
try:
    settings = json.load(open("/etc/chatmail/relay.json"))["settings"]
    print("domain", settings["mail_domain"])
    print("data", settings["mailboxes_dir"])
    print("resolver", settings["fallback_resolver"])
    print("mailboxes", sum("@" in name for name in os.listdir(settings["mailboxes_dir"])))
except FileNotFoundError:
    pass
except (ValueError, LookupError, TypeError):
    sys.exit("/etc/chatmail/relay.json does not say where the mailboxes are. Apply, then remove the relay.")
' || exit
there proxy /etc/chatmail/proxy.nft
echo "$files" | while read -r path; do
  case $path in
    # There has to be a resolv.conf; stop.sh writes another.
    ('' | /etc/resolv.conf) ;;
    (/etc/systemd/system/*.d/*) echo "path $path" ;;
    (/etc/systemd/system/*) echo "unit ${path##*/}" && echo "path $path" ;;
    (*) echo "path $path" ;;
  esac
done
# A relay that has moved away left these (tools/migrate).
for path in /etc/systemd/system/chatmail-moved*; do
  if [ -e "$path" ]; then echo "unit ${path##*/}" && echo "path $path"; fi
done
# Mail, keys and what services remember.
there data /home/vmail /etc/dkimkeys /var/lib/doveauth /var/lib/echobot /var/lib/operator-bot /var/lib/turn \
  /var/lib/iroh-relay /var/lib/chatmail* /var/lib/private/chatmail* /var/cache/chatmail* /var/cache/private/chatmail* /dev/shm/chatmail \
  /etc/ssl/private/mailserver.key /etc/ssl/certs/mailserver.pem
if [ -e /etc/acme/hooks/chatmail ]; then there data /var/lib/acme /etc/acme; fi
there path /usr/local/lib/chatmail /usr/local/lib/chatmaild /usr/local/lib/chatmail-status /usr/local/share/chatmail \
  /usr/local/src/chatmail /usr/local/bin/chatmail-* /usr/local/bin/iroh-relay /usr/local/bin/deltachat-rpc-server \
  /var/www/chatmail /var/www/.chatmail-* /etc/sysctl.d/60-chatmail-* /etc/tmpfiles.d/chatmail-* \
  /var/lib/systemd/timers/stamp-chatmail-* /etc/mailname /etc/chatmail
there own /etc/nginx/chatmail.d/*
daemon /etc/postfix/main.cf 'postfix postfix-*' /etc/postfix /var/spool/postfix
daemon /etc/dovecot/dovecot.conf 'dovecot-*' /etc/dovecot /var/lib/dovecot /usr/lib/dovecot
daemon /etc/nginx/nginx.conf 'nginx nginx-common libnginx-mod-*' /etc/nginx
daemon /etc/unbound/unbound.conf.d/chatmail.conf unbound /etc/unbound
daemon /etc/opendkim.conf 'opendkim opendkim-tools'
daemon /etc/turnserver.conf coturn
daemon /etc/mta-sts-daemon.yml postfix-mta-sts-resolver
daemon /etc/acme/hooks/chatmail acmetool
daemon /etc/mtail/chatmail.mtail mtail /etc/mtail
for user in vmail iroh echobot operator-bot; do
  if id "$user" > /dev/null 2>&1; then echo "user $user"; fi
done
