# Certificates by ACME are not managed yet: say so before anything is installed.
{% from "chatmail/map.jinja" import settings with context %}

tls-certificate:
  test.fail_without_changes:
    - comment: >-
        {{ settings.mail_domain_bare }} needs a certificate from a public authority, and this version of the formula cannot
        get one by itself. Put certificate and key on the host and name both files in the pillar
        (chatmail:tls_external_cert_and_key: /path/fullchain.pem /path/privkey.pem), or use a domain that begins with "_".
    - failhard: True
    - order: 100
    - require:
      - chatmail_preflight: preflight
