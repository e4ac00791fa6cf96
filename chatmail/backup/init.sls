# What must not be lost goes to a restic repository each night, where the pillar names one; docs/backup.md.
{% from "chatmail/map.jinja" import settings, only with context %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight
  # The program, and the mailboxes.
  - chatmail.chatmaild

{% set units = ["chatmail-backup", "chatmail-backup-check"] %}
{%- if settings.backup_repository %}
# Not made here: a password that is on this host alone is lost with it.
backup-password:
  chatmail_backup.password_there:
    - name: {{ settings.backup_password_file | json }}

backup-packages:
  chatmail_package.installed:
    # openssh-client: for repositories by sftp.
    - pkgs: [restic, openssh-client]
    - require:
      - chatmail_backup: backup-password

{%- if settings.backup_repository.startswith("/") %}
backup-repository:
  file.directory:
    - name: {{ settings.backup_repository | json }}
    - user: root
    - group: root
    - mode: '0700'
    - makedirs: True
{%- endif %}

backup-settings:
  file.managed:
    - name: /etc/chatmail/backup.toml
    - source: salt://chatmail/backup/files/etc/chatmail/backup.toml.j2
    - template: jinja
    - context: {settings: {{ only("mail_domain mailboxes_dir backup_repository backup_password_file backup_mail
        delete_mails_after tls_cert_path tls_key_path") }}}
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: env PYTHONPATH=/usr/local/lib/chatmaild /usr/bin/python3 -BP -m chatmaild.config chatmaild.backup:Settings
    - require:
      - file: chatmaild-source
      - chatmail_package: backup-packages

{{ sandbox("backup", privileged=units) }}
{% for unit in units %}
{{ unit | replace("chatmail-", "") }}-service:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}.service
    - source: salt://chatmail/backup/files/etc/systemd/system/{{ unit }}.service.j2
    - template: jinja
    - context: {settings: {{ only("backup_repository") }}}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: backup-settings

{{ unit | replace("chatmail-", "") }}-timer-unit:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}.timer
    - source: salt://chatmail/backup/files/etc/systemd/system/{{ unit }}.timer
    - user: root
    - group: root
    - mode: '0644'

{{ unit | replace("chatmail-", "") }}-timer:
  chatmail_service.running:
    - name: {{ unit }}.timer
    - enable: True
    - require:
      - file: {{ unit | replace("chatmail-", "") }}-service
    - watch:
      - file: {{ unit | replace("chatmail-", "") }}-timer-unit
{% endfor %}
{%- else %}
backup-timers:
  chatmail_service.dead:
    - names: [chatmail-backup.timer, chatmail-backup-check.timer]
    - enable: False

backup-absent:
  file.absent:
    - names:
      {%- for unit in units %}
      - /etc/systemd/system/{{ unit }}.timer
      - /etc/systemd/system/{{ unit }}.service
      - /etc/systemd/system/{{ unit }}.service.d
      {%- endfor %}
      - /etc/chatmail/backup.toml
    - require:
      - chatmail_service: backup-timers
{%- endif %}
