# At the end: does a firewall keep others from the relay, or the relay from others? Neither can be seen on the host.
include:
  - chatmail.preflight

outside-reachable:
  chatmail_firewall.reachable:
    - require:
      - file: preflight-settings
    - order: last
