# TURN (RFC 8656): coturn relays calls of clients that cannot reach each other. A small service of ours gives out
# credentials that end after five days; both know a secret that is made here and leaves the host never.
{% from "chatmail/map.jinja" import settings, only with context %}
{% from "chatmail/remnants.jinja" import remnants %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight
  # vmail, whose services ask for credentials.
  - chatmail.system
  # The credential service's source.
  - chatmail.chatmaild

# It has the port of coturn.
{{ remnants("turn", units=["turnserver.service"]) }}

turn-packages:
  chatmail_package.installed:
    - pkgs: [coturn]

turn-secret:
  chatmail_turn.secret_present:
    - name: /etc/chatmail/turn-secret

# A restored or copied secret belongs to whoever copied it. The services get it from systemd (LoadCredential).
turn-secret-owner:
  file.managed:
    - name: /etc/chatmail/turn-secret
    - replace: False
    - user: root
    - group: root
    - mode: '0600'
    - require:
      - chatmail_turn: turn-secret

turn-conf:
  file.managed:
    - name: /etc/turnserver.conf
    - source: salt://chatmail/turn/files/etc/turnserver.conf.j2
    - template: jinja
    - context: {settings: {{ only("disable_ipv6 mail_domain_bare public_addresses turn_max_port turn_min_port") }}}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - chatmail_package: turn-packages

{% for unit in ["coturn.service.d/10-chatmail.conf", "chatmail-turn.service", "chatmail-turn.socket"] %}
turn-{{ unit }}:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}
    - source: salt://chatmail/turn/files/etc/systemd/system/{{ unit }}.j2
    - template: jinja
    - context: {settings: {{ only("turn_socket_path") }}}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
{% endfor %}

{{ sandbox("turn", unprivileged=["coturn", "chatmail-turn"], further=["turn-coturn.service.d/10-chatmail.conf"]) }}

turn-service:
  chatmail_service.running:
    - name: coturn
    - enable: True
    - watch:
      - chatmail_turn: turn-secret
      - file: turn-conf
      - file: turn-coturn.service.d/10-chatmail.conf
      - chatmail_units: turn-drop-ins

turn-socket:
  chatmail_socket.listening:
    - services: [chatmail-turn]
    - require:
      - file: turn-chatmail-turn.socket
      - user: system-vmail-user

turn-credentials-service:
  chatmail_service.running:
    - name: chatmail-turn
    - enable: True
    - require:
      - chatmail_socket: turn-socket
    - watch:
      - chatmail_turn: turn-secret
      - file: chatmaild-source
      - file: turn-chatmail-turn.service
      - chatmail_units: turn-drop-ins
