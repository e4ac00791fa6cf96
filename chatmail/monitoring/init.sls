# Metrics for Prometheus, only where `mtail_address` says on which address: mtail counts lines of the journal (port 3903),
# Dovecot tells its own (port 3904, in its own configuration).
{% from "chatmail/map.jinja" import settings, only with context %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight

{% if settings.mtail_address %}
monitoring-packages:
  chatmail_package.installed:
    - pkgs: [mtail]

monitoring-programs:
  file.managed:
    - name: /etc/mtail/chatmail.mtail
    - source: salt://chatmail/monitoring/files/etc/mtail/chatmail.mtail
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - chatmail_package: monitoring-packages

monitoring-unit:
  file.managed:
    - name: /etc/systemd/system/mtail.service.d/10-chatmail.conf
    - source: salt://chatmail/monitoring/files/etc/systemd/system/mtail.service.d/10-chatmail.conf.j2
    - template: jinja
    - context: {settings: {{ only("mtail_address") }}}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

{{ sandbox("monitoring", unprivileged=["mtail"], further=["monitoring-unit"]) }}

monitoring-service:
  chatmail_service.running:
    - name: mtail
    - enable: True
    - watch:
      - chatmail_package: monitoring-packages
      - file: monitoring-programs
      - file: monitoring-unit
      - chatmail_units: monitoring-drop-ins
{% else %}
monitoring-off:
  chatmail_service.dead:
    - name: mtail
    - enable: False

monitoring-unit-gone:
  file.absent:
    - names:
      {%- for file in ["00-chatmail-sandbox", "00-chatmail-unprivileged", "10-chatmail"] %}
      - /etc/systemd/system/mtail.service.d/{{ file }}.conf
      {%- endfor %}
    - require:
      - chatmail_service: monitoring-off
{% endif %}
