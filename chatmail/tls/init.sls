# Certificate and key of Postfix and Dovecot; settings.tls_mode says where they come from.
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.preflight
  - chatmail.tls.{{ settings.tls_mode }}
