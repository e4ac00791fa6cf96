# The echobot: a client of this relay, which sends back what it is sent. It is off where the pillar does not want it.
{% from "chatmail/map.jinja" import settings with context %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight
  # vmail, whose doveauth reads the hash of the bot's password.
  - chatmail.system
  # Its source and settings.
  - chatmail.chatmaild
  # What a client does.
  - chatmail.echobot.core

{% if settings.echobot %}
echobot-user:
  user.present:
    - name: echobot
    - system: True
    - home: /var/lib/echobot
    - createhome: False
    - shell: /usr/sbin/nologin

echobot-tmpfiles:
  file.managed:
    - name: /etc/tmpfiles.d/chatmail-echobot.conf
    - source: salt://chatmail/echobot/files/etc/tmpfiles.d/chatmail-echobot.conf
    - user: root
    - group: root
    - mode: '0644'

echobot-directory:
  file.directory:
    - name: /run/echobot
    - user: echobot
    - group: vmail
    - mode: '02750'
    - require:
      - user: echobot-user
      - user: system-vmail-user

{{ sandbox("echobot", unprivileged=["echobot"]) }}

echobot-unit:
  file.managed:
    - name: /etc/systemd/system/echobot.service
    - source: salt://chatmail/echobot/files/etc/systemd/system/echobot.service
    - user: root
    - group: root
    - mode: '0644'

# It has started when it has logged in.
echobot-service:
  chatmail_service.running:
    - name: echobot
    - enable: True
    - require:
      - file: echobot-directory
    - watch:
      - chatmail_binary: echobot-program
      - file: chatmaild-source
      - file: chatmaild-echobot-settings
      - file: echobot-unit
      - chatmail_units: echobot-drop-ins

echobot-link:
  chatmail_echobot.invites:
    - require:
      - chatmail_service: echobot-service
{% else %}
echobot-service:
  chatmail_service.dead:
    - name: echobot
    - enable: False
{% endif %}
