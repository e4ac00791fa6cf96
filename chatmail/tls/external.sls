# External: the operator puts certificate and key on the host and renews them.
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.system

tls-certificate:
  chatmail_cert.usable:
    - name: {{ settings.tls_cert_path | json }}
    - key: {{ settings.tls_key_path | json }}
    - alt_names: [{{ settings.mail_domain_bare | json }}]
    - require:
      - chatmail_package: system-packages
