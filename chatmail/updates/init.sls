# Debian's security updates, each day, and what has to follow them.
{% from "chatmail/map.jinja" import settings, only with context %}

include:
  - chatmail.preflight

{% if settings.unattended_upgrades -%}
updates-packages:
  chatmail_package.installed:
    - pkgs: [unattended-upgrades]
    - require_in:
      - file: updates-apt
{%- endif %}

updates-restart:
  file.managed:
    - name: /usr/local/lib/chatmail/restart-outdated
    - source: salt://chatmail/updates/files/usr/local/lib/chatmail/restart-outdated
    - user: root
    - group: root
    - mode: '0755'
    - makedirs: True

updates-apt:
  file.managed:
    - name: /etc/apt/apt.conf.d/60chatmail-updates
    - source: salt://chatmail/updates/files/etc/apt/apt.conf.d/60chatmail-updates.j2
    - template: jinja
    - context: {settings: {{ only("unattended_upgrades automatic_reboot_hour") }}}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: updates-restart
