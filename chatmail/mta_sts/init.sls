# MTA-STS for mail that leaves (RFC 8461): Postfix asks this daemon which TLS policy another domain has published.
{% from "chatmail/map.jinja" import settings with context %}
{% from "chatmail/remnants.jinja" import remnants %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight
  - chatmail.unbound

# It has the port of Debian's.
{{ remnants("mta_sts", units=["mta-sts-daemon.service"], files=["/usr/local/lib/postfix-mta-sts-resolver"]) }}

mta_sts-packages:
  chatmail_package.installed:
    - pkgs: [postfix-mta-sts-resolver]
    - require:
      - file: unbound-resolv-conf

mta_sts-conf:
  file.managed:
    - name: /etc/mta-sts-daemon.yml
    - source: salt://chatmail/mta_sts/files/etc/mta-sts-daemon.yml
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - chatmail_package: mta_sts-packages

mta_sts-unit:
  file.managed:
    - name: /etc/systemd/system/postfix-mta-sts-resolver.service.d/10-chatmail.conf
    - source: salt://chatmail/mta_sts/files/etc/systemd/system/postfix-mta-sts-resolver.service.d/10-chatmail.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

{{ sandbox("mta_sts", unprivileged=["postfix-mta-sts-resolver"], further=["mta_sts-unit"]) }}

mta_sts-service:
  chatmail_service.running:
    - name: postfix-mta-sts-resolver
    - enable: True
    - watch:
      - file: mta_sts-conf
      - chatmail_units: mta_sts-drop-ins
