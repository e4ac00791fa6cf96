# OpenDKIM: the milter by which Postfix signs what leaves. What arrives is verified by the incoming filter.
# An IPv4-address relay has no name to publish a key under, nothing to sign with, and no OpenDKIM.
{% from "chatmail/map.jinja" import settings, only with context %}
{% from "chatmail/remnants.jinja" import remnants %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight
  - chatmail.system
  - chatmail.chatmaild

# Another deployment's filter, and signer.
opendkim-rspamd-removed:
  pkg.removed:
    - pkgs: [rspamd]

{% if settings.ipv4_relay %}
opendkim-service:
  chatmail_service.dead:
    - name: opendkim
    - enable: False
{% else %}
# The socket lives in Postfix's chroot, and Postfix must be a member of the group that may use it.
opendkim-packages:
  chatmail_package.installed:
    - pkgs: [opendkim, postfix]

opendkim-postfix-member:
  group.present:
    - name: opendkim
    - addusers: [postfix]
    - require:
      - chatmail_package: opendkim-packages

opendkim-socket-directory:
  file.directory:
    - name: /var/spool/postfix/opendkim
    - user: opendkim
    - group: opendkim
    - mode: '0750'
    - require:
      - chatmail_package: opendkim-packages

opendkim-key:
  chatmail_dkim.key_present:
    - name: /etc/dkimkeys
    - require:
      - chatmail_package: opendkim-packages
      - chatmail_package: system-packages

# A restored or copied key belongs to whoever copied it.
opendkim-keys-owner:
  file.directory:
    - name: /etc/dkimkeys
    - user: opendkim
    - group: opendkim
    - dir_mode: '0700'
    - file_mode: '0600'
    - recurse: [user, group, mode]
    - require:
      - chatmail_dkim: opendkim-key
    - require_in:
      - file: opendkim-conf

{% for table in ["KeyTable", "SigningTable"] %}
opendkim-{{ table }}:
  file.managed:
    - name: /etc/dkimkeys/{{ table }}
    - source: salt://chatmail/opendkim/files/etc/dkimkeys/{{ table }}.j2
    - template: jinja
    - context: {settings: {{ only("mail_domain") }}}
    - user: opendkim
    - group: opendkim
    - mode: '0600'
    - require:
      - file: opendkim-keys-owner
    - require_in:
      - file: opendkim-conf
    - watch_in:
      - chatmail_service: opendkim-service
{% endfor %}

# By these scripts OpenDKIM once verified what arrives. It does until the filter that verifies now is there.
{{ remnants("opendkim", files=["/etc/opendkim/screen.lua", "/etc/opendkim/final.lua"]) }}
    - require:
      - file: opendkim-conf

opendkim-conf:
  file.managed:
    - name: /etc/opendkim.conf
    - source: salt://chatmail/opendkim/files/etc/opendkim.conf
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: opendkim -n -x
    - require:
      - file: opendkim-socket-directory
      - chatmail_service: chatmaild-filtermail-incoming-service

opendkim-unit:
  file.managed:
    - name: /etc/systemd/system/opendkim.service.d/10-chatmail.conf
    - source: salt://chatmail/opendkim/files/etc/systemd/system/opendkim.service.d/10-chatmail.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

{{ sandbox("opendkim", unprivileged=["opendkim"], further=["opendkim-unit"]) }}

opendkim-service:
  chatmail_service.running:
    - name: opendkim
    - enable: True
    - watch:
      - file: opendkim-conf
      - chatmail_units: opendkim-drop-ins
{% endif %}
