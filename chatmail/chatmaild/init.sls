# Our services: doveauth, lastlogin and chatmail-metadata answer Dovecot, the filters stand between Postfix's listeners
# and its queue, chatmail-dane-policy tells Postfix who has DANE, chatmail-transport delivers by HTTPS, chatmail-newemail
# makes up addresses for nginx.
{% from "chatmail/map.jinja" import only, settings with context %}
{% from "chatmail/remnants.jinja" import remnants %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight
  - chatmail.preflight.ports
  # vmail and its mailboxes directory.
  - chatmail.system

chatmaild-packages:
  chatmail_package.installed:
    - pkgs: [python3, python3-aiosmtpd, python3-dnspython, python3-h11]

chatmaild-source:
  file.recurse:
    - name: /usr/local/lib/chatmaild/chatmaild
    - source: salt://chatmaild/src/chatmaild
    - clean: True
    - exclude_pat: '*__pycache__*'
    - user: root
    - group: root
    - dir_mode: '0755'
    - file_mode: '0644'

# A file for each service, with what it reads and nothing else: its restart means that one of its values has changed.
# The new source reads it before it replaces the old one.
{% for name, kind, keys in [
  ("accounts", "config:Config", "mail_domain mailboxes_dir"),
  ("doveauth", "doveauth:Settings",
    "mail_domain mailboxes_dir username_min_length username_max_length password_min_length " ~
    "max_creations_per_hour invite_only max_load_1m min_available_memory_mb min_free_disk_space_mb " ~
    "bots"),
  ("expire", "expire:Settings",
    "mail_domain mailboxes_dir delete_mails_after delete_large_after delete_inactive_users_after " ~
    "max_mailbox_size_mb tmpfs_index"),
  ("filtermail", "filtermail:OutgoingSettings",
    "mail_domain mailboxes_dir max_message_size max_user_send_per_minute max_user_send_burst_size " ~
    "passthrough_senders echobot_address echobot passthrough_recipients operator_address filtermail_host " ~
    "postfix_host postfix_reinject_port"),
  ("filtermail-incoming", "filtermail:IncomingSettings",
    "mail_domain mailboxes_dir max_message_size operator_address filtermail_host " ~
    "postfix_host postfix_reinject_port_incoming"),
  ("fsreport", "fsreport:Settings", "mail_domain mailboxes_dir tmpfs_index"),
  ("lastlogin", "config:Config", "mail_domain mailboxes_dir"),
  ("metadata", "metadata:Settings",
    "mail_domain mailboxes_dir mail_domain_bare notification_url turn_socket_path iroh_relay_url"),
  ("migrate-passdb", "migrate_passdb:Settings", "mail_domain mailboxes_dir passdb_path"),
  ("transport", "transport:Settings", "mail_domain max_message_size"),
  ("newemail", "newemail:Settings",
    "mail_domain mail_domain_bare ipv4_relay username_max_length password_min_length invite_only " ~
    "tls_mode"),
] + ([("echobot", "echobot:Settings", "echobot_address")] if settings.echobot else [])
  + ([("operator-bot", "operator_bot:Settings", "mail_domain operator_bot_address")] if settings.operator_bot else []) %}
chatmaild-{{ name }}-settings:
  file.managed:
    - name: /etc/chatmail/{{ name }}.toml
    - source: salt://chatmail/chatmaild/files/etc/chatmail/{{ name }}.toml.j2
    - template: jinja
    - context: {settings: {{ only(keys) }}}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - check_cmd: env PYTHONPATH=/usr/local/lib/chatmaild /usr/bin/python3 -BP -m chatmaild.config chatmaild.{{ kind }}
    - require:
      - chatmail_package: chatmaild-packages
      - file: chatmaild-source
{% endfor %}

# chatmail-metadata reads it for each client that asks.
chatmaild-app-versions:
{%- if settings.app_versions %}
  file.managed:
    - name: /etc/chatmail/appversions.json
    - contents: {{ {"clients": settings.app_versions} | json | json }}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
{%- else %}
  file.absent:
    - name: /etc/chatmail/appversions.json
{%- endif %}

{% if settings.rename_from %}
# The mail services are stopped meanwhile; they start when their turn comes, with the new domain.
chatmaild-mailboxes-renamed:
  chatmail_mailboxes.renamed:
    - name: {{ settings.rename_from | json }}
    - mail_domain: {{ settings.mail_domain | json }}
    - mailboxes_dir: {{ settings.mailboxes_dir | json }}
    - require:
      - file: system-mailboxes-directory
    - failhard: True
{% endif %}

# doveauth's unit starts it.
chatmaild-migrate-passdb-unit:
  file.managed:
    - name: /etc/systemd/system/chatmail-migrate-passdb.service
    - source: salt://chatmail/chatmaild/files/etc/systemd/system/chatmail-migrate-passdb.service.j2
    - template: jinja
    - context: {settings: {{ only("mailboxes_dir passdb_path") }}}
    - user: root
    - group: root
    - mode: '0644'
{% set services = [
  "doveauth",
  "lastlogin",
  "chatmail-metadata",
  "filtermail",
  "filtermail-incoming",
  "chatmail-dane-policy",
  "chatmail-transport",
  "chatmail-newemail",
] %}

# chatmail-transport's unit starts it.
chatmaild-transport-fallback-unit:
  file.managed:
    - name: /etc/systemd/system/chatmail-transport-fallback.service
    - source: salt://chatmail/chatmaild/files/etc/systemd/system/chatmail-transport-fallback.service
    - user: root
    - group: root
    - mode: '0644'
{{ sandbox("chatmaild",
  unprivileged=services + ["chatmail-migrate-passdb", "chatmail-network-share", "chatmail-transport-fallback"],
  further=["chatmaild-transport-fallback-unit"]) }}

{% set filled_in = ["filtermail.socket", "filtermail-incoming.socket"] %}
{% for service in services %}
chatmaild-{{ service }}-unit:
  file.managed:
    - name: /etc/systemd/system/{{ service }}.service
    - source: salt://chatmail/chatmaild/files/etc/systemd/system/{{ service }}.service.j2
    - template: jinja
    - context: {settings: {{ only("filtermail_host mailboxes_dir postfix_host") }}}
    - user: root
    - group: root
    - mode: '0644'

{% set socket = service ~ ".socket" %}
chatmaild-{{ service }}-socket-unit:
  file.managed:
    - name: /etc/systemd/system/{{ socket }}
    {%- if socket in filled_in %}
    - source: salt://chatmail/chatmaild/files/etc/systemd/system/{{ socket }}.j2
    - template: jinja
    - context: {settings: {{ only("filtermail_host filtermail_http_port_incoming filtermail_smtp_port
        filtermail_smtp_port_incoming postfix_host") }}}
    {%- else %}
    - source: salt://chatmail/chatmaild/files/etc/systemd/system/{{ socket }}
    {%- endif %}
    - user: root
    - group: root
    - mode: '0644'
    - require_in:
      - chatmail_socket: chatmaild-sockets
{% endfor %}

# Who may ask whether a password is right.
chatmaild-doveauth-group:
  group.present:
    - name: doveauth
    - system: True

# Also where an earlier version of a service listens by itself, or two have changed ports.
chatmaild-sockets:
  chatmail_socket.listening:
    - services: {{ services | json }}
    - require:
      - user: system-vmail-user
      - group: chatmaild-doveauth-group
{% for service in services %}
# Salt reloads systemd's units before it starts a service whose unit has changed.
chatmaild-{{ service }}-service:
  chatmail_service.running:
    - name: {{ service }}
    - enable: True
    - require:
      - chatmail_package: chatmaild-packages
      - chatmail_socket: chatmaild-sockets
    - watch:
      - file: chatmaild-source
      {%- if service != "chatmail-dane-policy" %}
      - file: chatmaild-{{ service | replace("chatmail-", "") }}-settings
      {%- endif %}
      - file: chatmaild-{{ service }}-unit
      - chatmail_units: chatmaild-drop-ins
{% endfor %}

# It listens by itself: while it is away, Postfix lets all pass.
chatmaild-network-share-unit:
  file.managed:
    - name: /etc/systemd/system/chatmail-network-share.service
    - source: salt://chatmail/chatmaild/files/etc/systemd/system/chatmail-network-share.service.j2
    - template: jinja
    - context: {settings: {{ only("max_message_size") }}}
    - user: root
    - group: root
    - mode: '0644'

chatmaild-network-share-service:
  chatmail_service.running:
    - name: chatmail-network-share
    - enable: True
    - require:
      - chatmail_package: chatmaild-packages
    - watch:
      - file: chatmaild-source
      - file: chatmaild-network-share-unit
      - chatmail_units: chatmaild-drop-ins

{{ remnants("chatmaild", units=["doveauth-dictproxy.service", "filtermail-transport.service"]) }}

# One file for all, until every service had its own. Last, when none reads it any more.
chatmaild-chatmail-ini:
  file.absent:
    - name: /etc/chatmail/chatmail.ini
    - order: last
