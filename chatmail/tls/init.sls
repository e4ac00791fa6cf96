# Certificate and key of Postfix and Dovecot; settings.tls_mode says where they come from.
{% from "chatmail/map.jinja" import settings with context %}
{% from "chatmail/remnants.jinja" import remnants %}

include:
  - chatmail.preflight
  - chatmail.tls.{{ settings.tls_mode }}

# Nothing of another mode stays at work.
{% set units = {"acme": ["acmetool.timer"], "external": ["certificate-reload.path", "certificate-reload.timer"]} %}
{% for mode in units if mode != settings.tls_mode %}
{% for unit in units[mode] %}
tls-{{ unit | replace(".", "-") }}-stopped:
  service.dead:
    - name: {{ unit }}
    - enable: False
    # Without it test=True tells of a service that is not there as one to be stopped.
    - onlyif:
      - fun: service.available
        args: [{{ unit }}]
    - require:
      - tls-certificate
{% endfor %}
{% endfor %}

# They would order certificates, take the port of challenges, or restart daemons beside us.
{{ remnants("tls",
  units=["acmetool-redirector.service", "acmetool-reconcile.timer", "acmetool-reconcile.service",
         "tls-cert-reload.path", "tls-cert-reload.service"],
  files=["/etc/cron.d/acmetool", "/etc/acme/hooks/nginx", "/usr/lib/acme/hooks/nginx"]) }}

# Each `acmetool want` of an earlier deployment left one more.
tls-remnants-desired:
  file.tidied:
    - name: /var/lib/acme/desired
    - matches: ['{{ settings.mail_domain_bare | regex_escape }}-.*']
    - onlyif:
      - fun: file.directory_exists
        path: /var/lib/acme/desired
    - require_in:
      - tls-certificate
