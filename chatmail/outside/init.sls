# At the end: does a firewall keep others from the relay, or the relay from others? Neither can be seen on the host.
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.preflight

outside-reachable:
  chatmail_firewall.reachable:
    - from_outside: {{ settings.dns_check }}
    - require:
      - file: preflight-settings
    - order: last
