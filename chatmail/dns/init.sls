# The relay's DNS records, in two steps: addresses and aliases before a certificate authority asks for them, all others
# at the end. Published by RFC 2136 where the pillar names a server and a key; else an apply stops with all that is to be
# entered at the provider, and the next one goes on.
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.preflight
  - chatmail.system

# An IPv4-address relay has no name to publish anything under.
{% if settings.dns_check and not settings.ipv4_relay %}
# Before the first stop, so that it tells all records; OpenDKIM's package takes the directory as it is.
dns-key:
  chatmail_dkim.key_present:
    - name: /etc/dkimkeys
    - require:
      - chatmail_package: system-packages

dns-initial:
  chatmail_dns.published:
    - settings: {{ settings | json }}
    - initial: True
    {% if "chatmail_controller.reached" in salt -%}
    - reached: {{ salt["chatmail_controller.reached"]() | json }}
    {% endif -%}
    - failhard: True
    - require:
      - chatmail_dkim: dns-key

dns-published:
  chatmail_dns.published:
    - settings: {{ settings | json }}
    - order: last
    - require:
      - chatmail_dns: dns-initial
{% endif %}
