# The settings are right, and no other apply is at work: nothing on the host was touched before.
{% from "chatmail/map.jinja" import schema, settings with context %}
# Under salt-ssh, where this is a wrapper function and costs nothing: refuses a second apply at the same time.
{% if "chatmail_apply.lock" in salt %}{{ salt["chatmail_apply.lock"]() }}{% endif %}

settings-valid:
  chatmail_settings.valid:
    - schema: {{ schema | json }}
    # Unsorted: sorting fails where somebody wrote a number as a key.
    - pillar: {{ pillar.get("chatmail") | json(sort_keys=False) }}
    - order: 1
    - failhard: True
