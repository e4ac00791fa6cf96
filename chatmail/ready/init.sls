# Says, as the last state of a relay's apply, where its page is and how to go on; changes nothing.
{% from "chatmail/map.jinja" import settings, only with context %}

include:
  - chatmail.preflight
  - chatmail.outside

ready-told:
  chatmail_relay.ready:
    - settings: {{ only("mail_domain mail_domain_bare tls_mode www_folder invite_only disable_mail") }}
    - order: last
    - require:
      - file: preflight-settings
      - chatmail_firewall: outside-reachable
