# Dovecot: stores what Postfix delivers (LMTP), and lets clients read it (IMAP).
{% from "chatmail/map.jinja" import settings, only with context %}
{% from "chatmail/remnants.jinja" import remnants %}
{% from "chatmail/sandbox.jinja" import sandbox %}
{% from "chatmail/dovecot/login_places.jinja" import login_places %}
{% set files = "salt://chatmail/dovecot/files-" ~ settings.release.dovecot %}

include:
  - chatmail.preflight
  - chatmail.system
  - chatmail.tls

# Another deployment's longer pause before a restart.
{{ remnants("dovecot", files=["/etc/systemd/system/dovecot.service.d/10_restart.conf"]) }}

# One of Dovecot's sockets is Postfix's: its user and its spool have to be there when Dovecot starts.
dovecot-packages:
  chatmail_package.installed:
    - pkgs: [dovecot-core, dovecot-imapd, dovecot-lmtpd, dovecot-auth-lua, lua-socket, postfix]

# With Debian 13 the spool's directories are made by Postfix's first start, which comes after Dovecot's.
dovecot-postfix-spool:
  cmd.run:
    - name: postfix check
    - creates: /var/spool/postfix/private
    - require:
      - chatmail_package: dovecot-packages

# An idle client takes inotify instances and watches of the kernel.
dovecot-inotify-limits:
  chatmail_dovecot.inotify_limits:
    - name: /etc/sysctl.d/60-chatmail-dovecot.conf
    - minimum: 65535

# How a new plugin is tried.
dovecot-instant-trial:
  file.managed:
    - name: /usr/local/src/chatmail/imap-instant-trial.conf
    - source: {{ files }}/usr/local/src/chatmail/imap-instant-trial.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

dovecot-instant-source:
  file.managed:
    - name: /usr/local/src/chatmail/imap-instant-plugin.c
    - source: salt://chatmail/dovecot/files/usr/local/src/chatmail/imap-instant-plugin.c
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

# Before the configuration and the service, which do not require it: without the plugin Dovecot announces later, but works.
dovecot-instant-plugin:
  chatmail_dovecot.notify_plugin_installed:
    - source: /usr/local/src/chatmail/imap-instant-plugin.c
    - require:
      - chatmail_package: dovecot-packages
      - file: dovecot-instant-source
      - file: dovecot-instant-trial

# Builds it again between applies, when a new Dovecot has another ABI.
dovecot-instant-rebuild:
  file.managed:
    - names:
      - /usr/local/lib/chatmail/chatmail_dovecot_plugin.py:
        - source: salt://chatmail/dovecot/files/usr/local/lib/chatmail/chatmail_dovecot_plugin.py
      - /usr/local/lib/chatmail/chatmail_errors.py:
        - source: salt://chatmail/dovecot/files/usr/local/lib/chatmail/chatmail_errors.py
      - /usr/local/lib/chatmail/rebuild-imap-instant:
        - source: salt://chatmail/dovecot/files/usr/local/lib/chatmail/rebuild-imap-instant
      - /etc/systemd/system/chatmail-imap-instant.service:
        - source: salt://chatmail/dovecot/files/etc/systemd/system/chatmail-imap-instant.service
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

dovecot-instant-link:
  file.managed:
    - name: /usr/local/lib/chatmail/link-imap-instant
    - source: salt://chatmail/dovecot/files/usr/local/lib/chatmail/link-imap-instant
    - user: root
    - group: root
    - mode: '0755'
    - makedirs: True

dovecot-unit:
  file.managed:
    - name: /etc/systemd/system/dovecot.service.d/10-chatmail.conf
    - source: salt://chatmail/dovecot/files/etc/systemd/system/dovecot.service.d/10-chatmail.conf.j2
    - template: jinja
    - context: {settings: {{ only("mailboxes_dir") }}}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - require:
      - file: dovecot-instant-link
      - file: dovecot-instant-rebuild

{{ sandbox("dovecot", privileged=["dovecot"], further=["dovecot-unit", "dovecot-remnants", "dovecot-instant-rebuild"]) }}

{% if settings.tmpfs_index -%}
dovecot-index-tmpfiles:
  file.managed:
    - name: /etc/tmpfiles.d/chatmail-index.conf
    - source: salt://chatmail/dovecot/files/etc/tmpfiles.d/chatmail-index.conf
    - user: root
    - group: root
    - mode: '0644'

dovecot-index-directory:
  file.directory:
    - name: /dev/shm/chatmail
    - user: vmail
    - group: vmail
    - mode: '0700'
    - require:
      - user: system-vmail-user
    - require_in:
      - chatmail_service: dovecot-service
{%- else -%}
dovecot-index-tmpfiles:
  file.absent:
    - name: /etc/tmpfiles.d/chatmail-index.conf
{%- endif %}

dovecot-auth:
  file.managed:
    - name: /etc/dovecot/auth.lua
    - source: salt://chatmail/dovecot/files/etc/dovecot/auth.lua
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - chatmail_package: dovecot-packages

dovecot-push-notification:
  file.managed:
    - name: /etc/dovecot/push_notification.lua
    - source: salt://chatmail/dovecot/files/etc/dovecot/push_notification.lua
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - chatmail_package: dovecot-packages

{% for file in ["imap-instant.conf", "dovecot.conf"] %}
dovecot-{{ file | replace(".", "-") }}:
  file.managed:
    - name: /etc/dovecot/{{ file }}
    - source: {{ files }}/etc/dovecot/{{ file }}.j2
    - template: jinja
    - context: {settings: {{ only("disable_ipv6 imap_compress imap_rawlog mailboxes_dir max_imap_connections
        max_mailbox_size_mb max_message_size mtail_address privacy_mail tls_cert_path
        tls_key_path tmpfs_index") }}, login_places: {{ login_places(grains["mem_total"], settings.max_imap_connections) }}}
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: doveconf -n -c
    - require:
      - chatmail_package: dovecot-packages
{% endfor %}

{% if settings.disable_mail -%}
dovecot-service:
  chatmail_service.dead:
    - name: dovecot
    - enable: False

dovecot-masked:
  chatmail_service.masked:
    - name: dovecot
    - require:
      - chatmail_service: dovecot-service
{%- else -%}
# A reload keeps the sessions; Dovecot reads the certificate then, too.
dovecot-service:
  chatmail_service.running:
    - name: dovecot
    - enable: True
    - unmask: True
    - reload: True
    - require:
      - cmd: dovecot-postfix-spool
      - chatmail_units: dovecot-drop-ins
      - user: system-vmail-user
    - watch:
      - file: dovecot-auth
      - file: dovecot-push-notification
      - file: dovecot-imap-instant-conf
      - file: dovecot-dovecot-conf
      - tls-certificate

# What no reload reads: programs, the plugin, the unit.
dovecot-current:
  chatmail_dovecot.current:
    - name: dovecot
    - require:
      - chatmail_service: dovecot-service
{%- endif %}
