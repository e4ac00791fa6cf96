# Self-signed: for domains that begin with "_" and for IPv4-address relays. Clients and other relays do not verify these.
# It lasts 100 years, so that no timer has to renew it; an apply makes it again when the names change.
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.system

tls-certificate:
  chatmail_cert.self_signed:
    - name: {{ settings.tls_cert_path | json }}
    - key: {{ settings.tls_key_path | json }}
    {%- if settings.ipv4_relay %}
    - alt_names: [{{ settings.mail_domain_bare | json }}]
    {%- else %}
    - alt_names: {{ [settings.mail_domain_bare, 'www.' ~ settings.mail_domain_bare, 'mta-sts.' ~ settings.mail_domain_bare] | json }}
    {%- endif %}
    - require:
      - chatmail_package: system-packages

