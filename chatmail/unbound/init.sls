# unbound: the relay's own validating resolver on loopback. Mail goes next to names that it resolved. unbound.conf(5)
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.preflight

unbound-packages:
  chatmail_package.installed:
    - pkgs: [unbound, dns-root-data]

unbound-conf:
  file.managed:
    - name: /etc/unbound/unbound.conf
    - source: salt://chatmail/unbound/files/etc/unbound/unbound.conf
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - chatmail_package: unbound-packages

unbound-conf-chatmail:
  file.managed:
    - name: /etc/unbound/unbound.conf.d/chatmail.conf
    - source: salt://chatmail/unbound/files/etc/unbound/unbound.conf.d/chatmail.conf.j2
    - template: jinja
    - context: {settings: {{ settings | json }}}
    - user: root
    - group: root
    - mode: '0644'
    # The file alone: unbound-checkconf of the whole configuration fails before the first start, which brings the
    # trust anchor.
    - check_cmd: unbound-checkconf
    - require:
      - chatmail_package: unbound-packages

unbound-service:
  service.running:
    - name: unbound
    - enable: True
    - watch:
      - file: unbound-conf
      - file: unbound-conf-chatmail

# Only now, with unbound running: never a moment without a resolver. A symbolic link (systemd-resolved's, resolvconf's)
# is replaced by a file.
unbound-resolv-conf:
  file.managed:
    - name: /etc/resolv.conf
    - source: salt://chatmail/unbound/files/etc/resolv.conf.j2
    - template: jinja
    - context: {settings: {{ settings | json }}}
    - follow_symlinks: False
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - service: unbound-service

# Wanted by unbound's unit, and without the resolvconf package it always fails.
unbound-resolvconf-service:
  service.disabled:
    - name: unbound-resolvconf
    - require:
      - chatmail_package: unbound-packages
