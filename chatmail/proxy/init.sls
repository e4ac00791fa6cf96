# Not part of a relay: a host of its own that hands all ports of a relay on to it, by address translation in the kernel.
# Its pillar is the relay's, with proxy_target beside it.
{% from "chatmail/map.jinja" import settings, only with context %}

include:
  - chatmail.preflight.settings

{% set target = [] %}
{% for address in settings.proxy_target if not (settings.disable_ipv6 and ":" in address) %}
{% do target.append(address) %}
{% endfor %}

{% if not target %}
proxy-target:
  test.fail_without_changes:
    - comment: >-
        proxy_target: is missing; write the relay's address, or its IPv4 and IPv6 address, into the pillar of this host,
        below `chatmail:`.
    - order: 2
    - failhard: True
{% endif %}

# Nothing here listens on what is forwarded: connections to it would end at the relay from then on, ssh's among them.
# Nothing but chatmail-moved.socket, by which a relay's old host answers other relays until its ports are forwarded
# (tools/migrate.py).
{% set ports = {} %}
{% for port in [25, 80, 143, 443, 465, 587, 993] %}{% do ports.update({port ~ "/tcp": ["the proxy", "chatmail-moved"]}) %}{% endfor %}
proxy-preflight:
  chatmail_preflight.passed:
    - ports: {{ ports | json }}
    - relay: False
    - require:
      - chatmail_settings: settings-valid
    - order: 2
    - failhard: True

# procps: sysctl(8).
proxy-packages:
  chatmail_package.installed:
    - pkgs: [nftables, procps]

proxy-rules:
  file.managed:
    - name: /etc/chatmail/proxy.nft
    - source: salt://chatmail/proxy/files/etc/chatmail/proxy.nft.j2
    - template: jinja
    - context: {settings: {{ only("turn_max_port turn_min_port") }}, target: {{ target | json }}}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - check_cmd: nft --check --file
    - require:
      - chatmail_package: proxy-packages

proxy-sysctl:
  file.managed:
    - name: /etc/chatmail/proxy.sysctl
    - source: salt://chatmail/proxy/files/etc/chatmail/proxy.sysctl.j2
    - template: jinja
    - context: {settings: {{ only("disable_ipv6") }}}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

{% for unit in ["chatmail-proxy", "chatmail-proxy-undo"] %}
proxy-{{ unit }}-unit:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}.service
    - source: salt://chatmail/proxy/files/etc/systemd/system/{{ unit }}.service
    - user: root
    - group: root
    - mode: '0644'
    - require_in:
      - chatmail_proxy: proxy-confirmed
{% endfor %}

# Under salt-ssh the controller makes a new connection once the rules are loaded. Without one, somebody logs in again.
proxy-confirmed:
  chatmail_proxy.confirmed:
    - name: /etc/chatmail/proxy.nft
    - seconds: {{ 20 if "chatmail_controller.attend" in salt else 120 }}
    - require:
      - file: proxy-rules
      - file: proxy-sysctl

proxy-service:
  chatmail_service.running:
    - name: chatmail-proxy
    - enable: True
    - reload: True
    - require:
      - chatmail_proxy: proxy-confirmed
    - watch:
      - file: proxy-sysctl
      - file: proxy-chatmail-proxy-unit
