# The settings are right, and no other apply is at work: nothing on the host was touched before.
{% from "chatmail/map.jinja" import schema with context %}
# Under salt-ssh, where this is a wrapper function and costs nothing: refuses a second apply at the same time.
{% if "chatmail_apply.lock" in salt %}{{ salt["chatmail_apply.lock"]() }}{% endif %}

settings-valid:
  chatmail_settings.valid:
    - problems: {{ salt["chatmail_settings.problems"](schema, pillar.get("chatmail")) | json }}
    - notices: {{ salt["chatmail_settings.notices"](pillar.get("chatmail")) | json }}
    - order: 1
    - failhard: True
