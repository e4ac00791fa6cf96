# The bot that tells the operator in a chat how the relay is, and what looks at the relay each hour. It is off where the
# pillar does not want it, or no mail. How the parts ask each other:
#
#     chatmail-status.timer -> chatmail-status (root) -> bot.socket -> operator-bot -> Delta Chat's core -> operators
#     operators -> operator-bot -> host.socket -> operator-bot-host@ (root), which knows four requests
{% from "chatmail/map.jinja" import only, settings with context %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight
  # vmail, whose doveauth reads the hash of the bot's password.
  - chatmail.system
  # Its source and settings.
  - chatmail.chatmaild
  # What a client does.
  - chatmail.echobot.core

{% set units = ["chatmail-status.service", "chatmail-status.timer", "operator-bot.service", "operator-bot.socket",
  "operator-bot-host@.service", "operator-bot-host.socket"] %}
{% if settings.operator_bot and not settings.disable_mail %}
# The status is what Salt runs, and it leaves nothing of itself on the host.
{% for folder in ["utils", "modules"] %}
operator_bot-status-{{ folder }}:
  file.recurse:
    - name: /usr/local/lib/chatmail-status/{{ folder }}
    - source: salt://chatmail/operator_bot/files/status/{{ folder }}
    - include_pat: chatmail_*.py
    - clean: True
    - user: root
    - group: root
    - dir_mode: '0755'
    - file_mode: '0644'
{% endfor %}

operator_bot-user:
  user.present:
    - name: operator-bot
    - system: True
    - home: /var/lib/operator-bot
    - createhome: False
    - shell: /usr/sbin/nologin

operator_bot-tmpfiles:
  file.managed:
    - name: /etc/tmpfiles.d/chatmail-operator-bot.conf
    - source: salt://chatmail/operator_bot/files/etc/tmpfiles.d/chatmail-operator-bot.conf
    - user: root
    - group: root
    - mode: '0644'

operator_bot-directory:
  file.directory:
    - name: /run/operator-bot
    - user: operator-bot
    - group: vmail
    - mode: '02750'
    - require:
      - user: operator_bot-user
      - user: system-vmail-user

# Those of root's two programs, beside the sandbox of all.
operator_bot-status-sandbox:
  file.managed:
    - names:
      - /etc/systemd/system/chatmail-status.service.d/10-chatmail-status.conf
      - /etc/systemd/system/operator-bot-host@.service.d/10-chatmail-status.conf
    - source: salt://chatmail/operator_bot/files/etc/systemd/system/status-sandbox.conf.j2
    - template: jinja
    - context: {settings: {{ only("mailboxes_dir") }}}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

operator_bot-units:
  file.managed:
    - names:
      {%- for unit in units %}
      - /etc/systemd/system/{{ unit }}:
        - source: salt://chatmail/operator_bot/files/etc/systemd/system/{{ unit }}
      {%- endfor %}
    - user: root
    - group: root
    - mode: '0644'

{{ sandbox("operator_bot", unprivileged=["operator-bot"], privileged=["chatmail-status", "operator-bot-host@"],
  further=["operator_bot-status-sandbox", "operator_bot-units"]) }}

operator_bot-sockets:
  chatmail_socket.listening:
    - services: [operator-bot]
    - require:
      - chatmail_units: operator_bot-drop-ins

operator_bot-host-socket:
  chatmail_service.running:
    - name: operator-bot-host.socket
    - enable: True
    - require:
      - user: operator_bot-user
    - watch:
      - file: operator_bot-units

# It has started when it has logged in.
operator_bot-service:
  chatmail_service.running:
    - name: operator-bot
    - enable: True
    - require:
      - file: operator_bot-directory
      - chatmail_socket: operator_bot-sockets
    - watch:
      - chatmail_binary: echobot-program
      - file: chatmaild-source
      - file: chatmaild-operator-bot-settings
      - file: operator_bot-units
      - chatmail_units: operator_bot-drop-ins

operator_bot-timer:
  chatmail_service.running:
    - name: chatmail-status.timer
    - enable: True
    - require:
      - file: operator_bot-status-utils
      - file: operator_bot-status-modules
    - watch:
      - file: operator_bot-units

operator_bot-link:
  chatmail_bot.invites:
    - require:
      - chatmail_service: operator_bot-service
{% else %}
operator_bot-dead:
  chatmail_service.dead:
    - names:
      - chatmail-status.timer
      - operator-bot-host.socket
      - operator-bot.socket
      - operator-bot.service
    - enable: False

# Its account stays, with those who have joined, for the day on which it is wanted again.
operator_bot-absent:
  file.absent:
    - names:
      {%- for unit in units %}
      - /etc/systemd/system/{{ unit }}
      {%- if unit.endswith(".service") %}
      - /etc/systemd/system/{{ unit }}.d
      {%- endif %}
      {%- endfor %}
      - /etc/tmpfiles.d/chatmail-operator-bot.conf
      - /usr/local/lib/chatmail-status
    - require:
      - chatmail_service: operator_bot-dead
{% endif %}
