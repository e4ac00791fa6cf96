# The echobot: a client of this relay, which sends back what it is sent. It is off where the pillar does not want it.
{% from "chatmail/map.jinja" import settings with context %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight
  # vmail, whose doveauth reads the hash of the bot's password.
  - chatmail.system
  # Its source and settings.
  - chatmail.chatmaild

{% if settings.echobot %}
# Delta Chat's core 2.65.0: the archive for each kind of machine, and the hash of the program in it.
{% set release = "https://github.com/chatmail/core/releases/download/v2.65.0/deltachat_rpc_server-2.65.0-py3-none-" %}
{% set source, sha256 = {
  "x86_64": (
    release ~ "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64.whl",
    "fc4945c3179499f5b69579d224e3da2f1f4bfa5ce927db4253fba844bec4ad1a",
  ),
  "aarch64": (
    release ~ "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
    "01c0f9ff0ce1fe8c3f99ba8f66d056f75653fdf2e39c00decac374285097c33c",
  ),
}.get(grains["cpuarch"], ("", "")) %}
echobot-program:
  chatmail_binary.installed:
    - name: /usr/local/bin/deltachat-rpc-server
    - source: {{ (settings.echobot_source or source) | json }}
    - sha256: {{ (settings.echobot_sha256 or sha256) | lower | json }}
    - otherwise: >-
        Everything else works without it. Copy the program to the host and name it in the pillar (echobot_source: a
        path or URL, echobot_sha256: its hash), or do without (echobot: false), then apply again.

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
