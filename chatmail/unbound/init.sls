# unbound: the relay's own validating resolver on loopback. Mail goes next to names that it resolved. unbound.conf(5)
{% from "chatmail/map.jinja" import settings, only with context %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight
  # python3-dnspython, to ask unbound.
  - chatmail.system

# Any one of them is enough: the domain itself may have no name servers yet.
{% set lookups = ["www." ~ settings.postfix_myhostname ~ ".", "debian.org."] %}

# Before the first package of all components: apt looks up names.
unbound-bootstrap:
  chatmail_resolver.working:
    - lookups: {{ lookups | json }}
    - fallback: {{ settings.fallback_resolver }}
    - require:
      - chatmail_preflight: preflight-adopted
    - order: 210
    - failhard: True

unbound-packages:
  chatmail_package.installed:
    - pkgs: [unbound, dns-root-data]
    - with_later: False

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
    - context: {settings: {{ only("disable_ipv6") }}}
    - user: root
    - group: root
    - mode: '0644'
    # The file alone: unbound-checkconf of the whole configuration fails before the first start, which brings the
    # trust anchor.
    - check_cmd: unbound-checkconf
    - require:
      - chatmail_package: unbound-packages

# Wanted by unbound's unit. It would write into /etc/resolv.conf where resolvconf is, and fails where something else has
# taken that name, as systemd-resolved does.
unbound-resolvconf-service:
  chatmail_service.disabled:
    - name: unbound-resolvconf
    - require:
      - chatmail_package: unbound-packages

unbound-unit:
  file.managed:
    - name: /etc/systemd/system/unbound.service.d/10-chatmail.conf
    - source: salt://chatmail/unbound/files/etc/systemd/system/unbound.service.d/10-chatmail.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

{{ sandbox("unbound", privileged=["unbound"], further=["unbound-unit"]) }}

# Another resolver goes when ours is about to start.
{% set ports = salt["chatmail_settings.ports"](settings) %}
unbound-port-free:
  chatmail_preflight.ports_free:
    - ports: {{ {"53/tcp": ports["53/tcp"], "53/udp": ports["53/udp"]} | json }}
    - takeover: {{ settings.takeover }}
    - require:
      - chatmail_preflight: preflight-adopted
      - chatmail_package: unbound-packages

unbound-service:
  chatmail_service.running:
    - name: unbound
    - enable: True
    - require:
      - chatmail_preflight: unbound-port-free
      - chatmail_service: unbound-resolvconf-service
    - watch:
      - file: unbound-conf
      - file: unbound-conf-chatmail
      - chatmail_units: unbound-drop-ins

unbound-answers:
  chatmail_resolver.serving:
    - name: 127.0.0.1
    - lookups: {{ lookups | json }}
    - require:
      - chatmail_package: system-packages
      - chatmail_service: unbound-service

# Only now: never a moment without a resolver. systemd-resolved has been beside unbound until here, on 127.0.0.53. Its
# symbolic link, or resolvconf's, is replaced by a file.
unbound-resolv-conf:
  file.managed:
    - name: /etc/resolv.conf
    - source: salt://chatmail/unbound/files/etc/resolv.conf.j2
    - template: jinja
    - context: {settings: {{ only("fallback_resolver") }}}
    - follow_symlinks: False
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - chatmail_resolver: unbound-answers

# What would write the file again: DHCP clients, resolvconf, and systemd-resolved at its package's next update. And
# unbound-anchor, by which other deployments got the trust anchor that dns-root-data brings.
unbound-dhclient:
  file.managed:
    - name: /etc/dhcp/dhclient-enter-hooks.d/zz-chatmail
    - source: salt://chatmail/unbound/files/etc/dhcp/dhclient-enter-hooks.d/zz-chatmail
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

unbound-resolvconf-purged:
  pkg.purged:
    - pkgs: [resolvconf, openresolv, unbound-anchor]
    - require:
      - file: unbound-resolv-conf

unbound-systemd-resolved-stopped:
  chatmail_service.dead:
    - name: systemd-resolved
    - require:
      - file: unbound-resolv-conf

# Other packages depend on it, so it cannot be purged.
unbound-systemd-resolved-masked:
  chatmail_service.masked:
    - name: systemd-resolved
    - require:
      - chatmail_service: unbound-systemd-resolved-stopped
