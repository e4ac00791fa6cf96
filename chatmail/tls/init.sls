# Certificate and key of Postfix and Dovecot; settings.tls_mode says where they come from.
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.preflight
  - chatmail.preflight.ports
  - chatmail.tls.remnants
  - chatmail.tls.{{ settings.tls_mode }}

# Nothing of another mode stays at work.
{% set units = {"acme": ["acmetool.timer"], "external": ["certificate-reload.path", "certificate-reload.timer"]} %}
{% for mode in units if mode != settings.tls_mode %}
{% for unit in units[mode] %}
tls-{{ unit | replace(".", "-") }}-stopped:
  chatmail_service.dead:
    - name: {{ unit }}
    - enable: False
    - require:
      - tls-certificate
{% endfor %}
{% endfor %}
