# External: the operator puts certificate and key on the host and renews them; the daemons read them again then.
{% from "chatmail/map.jinja" import settings, only with context %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.system
  - chatmail.tls.reload

tls-certificate:
  chatmail_cert.usable:
    - name: {{ settings.tls_cert_path | json }}
    - key: {{ settings.tls_key_path | json }}
    - alt_names: [{{ settings.mail_domain_bare | json }}]
    - require:
      - chatmail_package: system-packages

{% for unit in ("certificate-reload.path", "certificate-reload.service", "certificate-reload.timer") %}
tls-{{ unit | replace(".", "-") }}:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}
    - source: salt://chatmail/tls/files/etc/systemd/system/{{ unit }}{{ ".j2" if unit.endswith(".path") else "" }}
    {%- if unit.endswith(".path") %}
    - template: jinja
    - context: {settings: {{ only("tls_cert_path tls_key_path") }}}
    {%- endif %}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: tls-reload-script
{% endfor %}

{{ sandbox("tls", unprivileged=["certificate-reload"]) }}

# The watch for changes, and a daily reload for those that it cannot see.
{% for unit in ("certificate-reload.path", "certificate-reload.timer") %}
tls-{{ unit | replace(".", "-") }}-running:
  chatmail_service.running:
    - name: {{ unit }}
    - enable: True
    - require:
      - chatmail_cert: tls-certificate
    - watch:
      - file: tls-{{ unit | replace(".", "-") }}
      - file: tls-certificate-reload-service
{% endfor %}
