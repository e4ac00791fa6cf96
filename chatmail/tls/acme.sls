# ACME (RFC 8555) by Debian's acmetool: a certificate of a public authority for the domain, www. and mta-sts. acmetool(8)
# While an order is open, acmetool itself answers the challenges: on port 80 where it is free, else on 127.0.0.1:402,
# to where nginx hands them on. So nothing of it runs between orders.
{% from "chatmail/map.jinja" import settings, only with context %}
{% from "chatmail/sandbox.jinja" import sandbox %}
{% set names = [settings.mail_domain_bare, "www." ~ settings.mail_domain_bare, "mta-sts." ~ settings.mail_domain_bare] %}

include:
  - chatmail.system
  - chatmail.unbound
  - chatmail.tls.reload

# python3-dnspython reads CAA records.
tls-acme-packages:
  chatmail_package.installed:
    - pkgs: [acmetool, python3-dnspython]
    - reload_modules: True
    - require:
      - chatmail_package: system-packages

tls-acme-key:
  chatmail_cert.acme_key:
    - name: {{ settings.acme_key_type }}
    - require:
      - chatmail_package: tls-acme-packages

tls-acme-target:
  file.managed:
    - name: /var/lib/acme/conf/target
    - source: salt://chatmail/tls/files/var/lib/acme/conf/target.j2
    - template: jinja
    - context: {settings: {{ only("acme_directory_url acme_key_type tls_key_path") }}}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - require:
      - chatmail_cert: tls-acme-key

tls-acme-desired:
  file.managed:
    - name: /var/lib/acme/desired/{{ settings.mail_domain_bare }}
    - contents: |
        # Managed by chatmail-formula.
        satisfy:
          names: {{ names | json }}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - require:
      - chatmail_package: tls-acme-packages

tls-acme-hook:
  file.managed:
    - name: /etc/acme/hooks/chatmail
    - source: salt://chatmail/tls/files/etc/acme/hooks/chatmail
    - user: root
    - group: root
    - mode: '0755'
    - makedirs: True
    - require:
      - chatmail_package: tls-acme-packages
      - file: tls-reload-script

tls-certificate:
  chatmail_cert.acme:
    - name: {{ settings.tls_cert_path | json }}
    - key: {{ settings.tls_key_path | json }}
    - alt_names: {{ names | json }}
    - directory_url: {{ settings.acme_directory_url | json }}
    - email: {{ settings.acme_email | json }}
    - failhard: True
    - require:
      - file: tls-acme-target
      - file: tls-acme-desired
      - file: tls-acme-hook
      - file: unbound-resolv-conf

{{ sandbox("tls", privileged=["acmetool"]) }}

# Twice a day, an hour of jitter, made up for after a night off; acmetool asks the network only when a renewal is due.
tls-acme-timer:
  chatmail_service.running:
    - name: acmetool.timer
    - enable: True
    - require:
      - chatmail_cert: tls-certificate
