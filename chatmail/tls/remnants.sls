# What would order certificates, take the port of challenges, or restart daemons beside us.
{% from "chatmail/map.jinja" import settings with context %}
{% from "chatmail/remnants.jinja" import remnants %}

include:
  - chatmail.preflight
  # Its Python libraries first: after these states, `import dns` finds a module of Salt's own in their place.
  - chatmail.system

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
