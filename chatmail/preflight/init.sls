# Runs first in every apply, also of a single component: nothing is installed or changed when the settings are wrong
# or the host is not fit. Everything that is wrong is reported at once.
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.preflight.settings

# For each port the services that may listen there. On port 80 acmetool itself answers before nginx is there.
{% set ports = {
  "25/tcp": ["postfix"],
  "465/tcp": ["postfix"],
  "587/tcp": ["postfix"],
  "143/tcp": ["dovecot"],
  "993/tcp": ["dovecot"],
  "3478/udp": ["coturn", "turnserver"],
  "80/tcp": ["nginx", "acmetool-redirector", "acmetool"],
  "443/tcp": ["nginx"],
  "8443/tcp": ["nginx"],
  "10465/tcp": ["postfix"],
  "10993/tcp": ["dovecot"],
  "53/tcp": ["unbound", "systemd-resolved"],
  "53/udp": ["unbound", "systemd-resolved"],
  "8461/tcp": ["postfix-mta-sts-resolver", "mta-sts-daemon"],
  "8462/tcp": ["chatmail-dane-policy"],
} %}
{% if settings.mtail_address %}{% do ports.update({"3903/tcp": ["mtail"], "3904/tcp": ["dovecot"]}) %}{% endif %}
{% if settings.run_iroh_relay %}{% do ports.update({"3340/tcp": ["iroh-relay"]}) %}{% endif %}
# systemd-resolved is replaced by unbound later, in an order that keeps name resolution working.
# These are settings: when they change places in the pillar, each is still held by the owner of another.
{% for key, service in (
  ("filtermail_smtp_port", "filtermail"),
  ("filtermail_smtp_port_incoming", "filtermail-incoming"),
  ("filtermail_http_port_incoming", "filtermail-incoming"),
  ("postfix_reinject_port", "postfix"),
  ("postfix_reinject_port_incoming", "postfix"),
) %}
{% do ports.update({settings[key] ~ "/tcp": [service, "filtermail", "filtermail-incoming", "postfix"]}) %}
{% endfor %}

preflight:
  chatmail_preflight.passed:
    - ports: {{ ports | json }}
    - takeover: {{ settings.takeover }}
    - addresses: {{ [settings.mtail_address] if settings.mtail_address else [] }}
    # With test=True Salt goes on after a failure in spite of failhard.
    - require:
      - chatmail_settings: settings-valid
    - order: 2
    - failhard: True

# After the other checks that refuse a host early, and before everything that changes it.
preflight-adopted:
  chatmail_preflight.adopted:
    - require:
      - chatmail_preflight: preflight
    - order: 200
    - failhard: True

# For functions that have no pillar, as under salt-ssh: what chatmail_relay.status compares the host with.
preflight-settings:
  file.managed:
    - name: /etc/chatmail/relay.json
    - contents: {{ {"settings": settings, "ports": ports} | json | json }}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - require:
      - chatmail_preflight: preflight-adopted
    - order: 201
