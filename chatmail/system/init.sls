# What all components stand on: the vmail user, the mailboxes directory, the journal.
{% from "chatmail/map.jinja" import settings with context %}
{% from "chatmail/remnants.jinja" import remnants %}

include:
  - chatmail.preflight

system-apt-recommends:
  file.managed:
    - name: /etc/apt/apt.conf.d/00InstallRecommends
    - source: salt://chatmail/system/files/etc/apt/apt.conf.d/00InstallRecommends
    - user: root
    - group: root
    - mode: '0644'

# A source of packages that is no more stops apt.
system-remnants-source:
  file.replace:
    - name: /etc/apt/sources.list
    - pattern: '^.*obs-home-deltachat.*\n'
    - repl: ''
    - backup: False
    - ignore_if_missing: True

# With its pins Dovecot would stay without Debian's security updates.
{{ remnants("system", files=["/etc/apt/keyrings/obs-home-deltachat.gpg", "/etc/apt/preferences.d/pin-dovecot",
                             "/root/from-cmdeploy"]) }}

# ca-certificates: Postfix verifies other relays. python3-cryptography: our states make keys and certificates on the host.
# python3-dnspython: they ask the domain's name servers. Those of all components come when the DNS records are found.
system-packages:
  chatmail_package.installed:
    - pkgs: [ca-certificates, python3-cryptography, python3-dnspython]
    - with_later: False
    - reload_modules: True
    - require:
      - file: system-apt-recommends

system-vmail-group:
  group.present:
    - name: vmail
    - system: True

# Owns the mailboxes; our services and Dovecot's mail processes run as vmail.
system-vmail-user:
  user.present:
    - name: vmail
    - system: True
    - gid: vmail
    - home: /home/vmail
    - shell: /usr/sbin/nologin
    - require:
      - group: system-vmail-group

system-mailboxes-directory:
  file.directory:
    - name: {{ settings.mailboxes_dir | json }}
    - user: vmail
    - group: vmail
    - mode: '0700'
    - makedirs: True
    - require:
      - user: system-vmail-user

# The part after the @ of addresses that programs on the host use.
system-mailname:
  file.managed:
    - name: /etc/mailname
    - contents: {{ settings.mail_domain | json }}
    - user: root
    - group: root
    - mode: '0644'

# glibc then does not look at /etc/localtime for each time stamp; the units of daemons that do so often carry it too.
system-time-zone:
  file.append:
    - name: /etc/environment
    - text: TZ=:/etc/localtime

system-journal:
  file.managed:
    - name: /etc/systemd/journald.conf.d/chatmail.conf
    - source: salt://chatmail/system/files/etc/systemd/journald.conf.d/chatmail.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

system-journal-service:
  chatmail_service.running:
    - name: systemd-journald
    - watch:
      - file: system-journal

# What an earlier configuration kept.
system-journal-on-disk:
  file.absent:
    - name: /var/log/journal
    - require:
      - chatmail_service: system-journal-service
