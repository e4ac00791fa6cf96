# The relay's DNS records, in two steps: addresses and aliases before a certificate authority asks for them, all others
# at the end, when their keys exist. Published by RFC 2136 where the pillar names a server and a key; else an apply stops
# with what to enter at the provider, and the next one goes on.
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.preflight
  - chatmail.system

# An IPv4-address relay has no name to publish anything under.
{% if settings.dns_check and not settings.ipv4_relay %}
dns-initial:
  chatmail_dns.published:
    - settings: {{ settings | json }}
    - initial: True
    - failhard: True
    - require:
      - chatmail_package: system-packages

dns-published:
  chatmail_dns.published:
    - settings: {{ settings | json }}
    - order: last
    - require:
      - chatmail_dns: dns-initial
{% endif %}
