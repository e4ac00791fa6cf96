# What the clock starts: old mail and unused mailboxes go each night, a daily report, the page /metrics if it is wanted.
{% from "chatmail/map.jinja" import settings, only with context %}
{% from "chatmail/remnants.jinja" import remnants %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight
  # The programs, and the settings files they read.
  - chatmail.chatmaild

# For operators, as vmail: runuser -u vmail -- /usr/local/bin/chatmail-expire. Dovecot runs quota-expire.
{% for command in ["expire", "quota-expire", "fsreport"] %}
jobs-{{ command }}-command:
  file.managed:
    - name: /usr/local/bin/chatmail-{{ command }}
    - contents: |
        #!/bin/sh
        # Managed by chatmail-formula; changes made here are undone by the next apply.
        PYTHONPATH=/usr/local/lib/chatmaild exec /usr/bin/python3 -P -m chatmaild.{{ command | replace("-", "_") }} "$@"
    - user: root
    - group: root
    - mode: '0755'
{% endfor %}
{% set jobs = ["expire", "fsreport"] + (["metrics"] if settings.metrics_page else []) %}
{% set units = [] %}
{% for job in jobs %}{% do units.append("chatmail-" ~ job) %}{% endfor %}
{{ sandbox("jobs", unprivileged=units) }}
{% for job in jobs %}
jobs-{{ job }}-service:
  file.managed:
    - name: /etc/systemd/system/chatmail-{{ job }}.service
    - source: salt://chatmail/jobs/files/etc/systemd/system/chatmail-{{ job }}.service.j2
    - template: jinja
    - context: {settings: {{ only("mailboxes_dir") }}}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: chatmaild-source
      {%- if job != "metrics" %}
      - file: chatmaild-{{ job }}-settings
      {%- endif %}

jobs-{{ job }}-timer-unit:
  file.managed:
    - name: /etc/systemd/system/chatmail-{{ job }}.timer
    - source: salt://chatmail/jobs/files/etc/systemd/system/chatmail-{{ job }}.timer
    - user: root
    - group: root
    - mode: '0644'

jobs-{{ job }}-timer:
  chatmail_service.running:
    - name: chatmail-{{ job }}.timer
    - enable: True
    - require:
      - file: jobs-{{ job }}-service
    - watch:
      - file: jobs-{{ job }}-timer-unit
{% endfor %}
{%- if not settings.metrics_page %}
jobs-metrics-timer:
  chatmail_service.dead:
    - name: chatmail-metrics.timer
    - enable: False

jobs-metrics-absent:
  file.absent:
    - names:
      - /etc/systemd/system/chatmail-metrics.timer
      - /etc/systemd/system/chatmail-metrics.service
      - /etc/systemd/system/chatmail-metrics.service.d
    - require:
      - chatmail_service: jobs-metrics-timer
{%- endif %}

# They would expire mail and publish figures beside us.
{{ remnants("jobs", files=["/etc/cron.d/expunge", "/etc/cron.d/chatmail-metrics", "/var/www/html/metrics"]) }}
