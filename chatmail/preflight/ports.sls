# Who holds the relay's ports is stopped where `takeover` allows it: after what ends a first apply early, the DNS records
# that are missing for instance, and before the first daemon needs a port.
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.preflight

preflight-ports-free:
  chatmail_preflight.ports_free:
    - ports: {{ salt["chatmail_settings.ports"](settings) | json }}
    - takeover: {{ settings.takeover }}
    - require:
      - chatmail_preflight: preflight-adopted
    - failhard: True
