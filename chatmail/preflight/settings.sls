# The settings are right, and no other apply is at work: nothing on the host was touched before.
{% from "chatmail/map.jinja" import schema, settings with context %}
# Under salt-ssh, where this is a wrapper function: refuses a second apply at the same time, and does from then on what
# the states ask of the controller.
{% if "chatmail_controller.attend" in salt %}{{ salt["chatmail_controller.attend"](settings) }}{% endif %}

settings-valid:
  chatmail_settings.valid:
    - problems: {{ salt["chatmail_settings.problems"](schema, pillar.get("chatmail")) | json }}
    - notices: {{ salt["chatmail_settings.notices"](pillar.get("chatmail")) | json }}
    - order: 1
    - failhard: True
