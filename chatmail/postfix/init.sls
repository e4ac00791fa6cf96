# Postfix: mail comes in on 25 (other relays), 465 and 587 (clients), goes through our filter and back in on two
# loopback ports, and leaves to Dovecot's LMTP socket or to other relays. chatmail-sasl tells it whose passwords are right.
{% from "chatmail/map.jinja" import settings, only with context %}
{% from "chatmail/remnants.jinja" import remnants %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight
  - chatmail.unbound
  - chatmail.tls
  - chatmail.mta_sts
  # The filters, and who tells which domains have DANE.
  - chatmail.chatmaild

# Another deployment's longer pause before a restart.
{{ remnants("postfix", files=["/etc/systemd/system/postfix@.service.d/10_restart.conf"]) }}

{% set unit = settings.release.postfix_unit %}
{% set drop_ins = unit | replace("@-", "@") %}

postfix-packages:
  chatmail_package.installed:
    - pkgs: [postfix]

# With Debian 13 the spool's directories are made by Postfix's first start; the socket below is in one of them.
postfix-spool:
  cmd.run:
    - name: postfix check
    - creates: /var/spool/postfix/private
    - require:
      - chatmail_package: postfix-packages

{{ sandbox("postfix", unprivileged=["chatmail-sasl"], privileged=[drop_ins], further=["postfix-unit", "postfix-remnants"]) }}

postfix-sasl-socket-unit:
  file.managed:
    - name: /etc/systemd/system/chatmail-sasl.socket
    - source: salt://chatmail/postfix/files/etc/systemd/system/chatmail-sasl.socket
    - user: root
    - group: root
    - mode: '0644'

postfix-sasl-unit:
  file.managed:
    - name: /etc/systemd/system/chatmail-sasl.service
    - source: salt://chatmail/postfix/files/etc/systemd/system/chatmail-sasl.service
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: postfix-sasl-socket-unit

# systemd listens, so that no smtpd is refused while the service restarts. The service requires it.
postfix-sasl-service:
  chatmail_service.running:
    - name: chatmail-sasl
    - enable: True
    - require:
      - cmd: postfix-spool
      - group: chatmaild-doveauth-group
    - watch:
      - file: chatmaild-source
      - file: postfix-sasl-unit
      - chatmail_units: postfix-drop-ins

# The maps come first: main.cf names them.
{% for map in ["login_map", "submission_header_cleanup", "lmtp_header_cleanup", "smtp_tls_policy_map"] %}
postfix-{{ map }}:
  file.managed:
    - name: /etc/postfix/{{ map }}
    - source: salt://chatmail/postfix/files/etc/postfix/{{ map }}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - chatmail_package: postfix-packages
    - require_in:
      - file: postfix-main-cf
    - watch_in:
      - chatmail_service: postfix-service
{% endfor %}

postfix-own_domain:
  file.managed:
    - name: /etc/postfix/own_domain
    - source: salt://chatmail/postfix/files/etc/postfix/own_domain.j2
    - template: jinja
    - context: {settings: {{ only("mail_domain") }}}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - chatmail_package: postfix-packages
    - require_in:
      - file: postfix-main-cf
    - watch_in:
      - chatmail_service: postfix-service

# postconf reads a whole directory, and warns about names it does not know without an error code of its own.
{% for file in ["main.cf", "master.cf"] %}
postfix-{{ file | replace(".", "-") }}:
  file.managed:
    - name: /etc/postfix/{{ file }}
    - source: salt://chatmail/postfix/files/etc/postfix/{{ file }}.j2
    - template: jinja
    - context: {settings: {{ only("disable_ipv6 filtermail_host filtermail_smtp_port filtermail_smtp_port_incoming
        ipv4_relay mail_domain max_message_size max_smtp_connections postfix_myhostname
        postfix_reinject_port postfix_reinject_port_incoming tls_cert_path tls_key_path") }}}
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: /usr/local/lib/chatmail/check-postfix {{ file }}
    - require:
      - chatmail_package: postfix-packages
      - file: postfix-check
      # It verifies what arrives; before it did, master.cf had OpenDKIM do so.
      - chatmail_service: chatmaild-filtermail-incoming-service
    - watch_in:
      - chatmail_service: postfix-service
{% endfor %}

postfix-check:
  file.managed:
    - name: /usr/local/lib/chatmail/check-postfix
    - source: salt://chatmail/postfix/files/usr/local/lib/chatmail/check-postfix
    - user: root
    - group: root
    - mode: '0755'
    - makedirs: True

postfix-unit:
  file.managed:
    - name: /etc/systemd/system/{{ drop_ins }}.service.d/10-chatmail.conf
    - source: salt://chatmail/postfix/files/etc/systemd/system/postfix@.service.d/10-chatmail.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

postfix-aliases:
  file.managed:
    - name: /etc/aliases
    - contents: '# Managed by chatmail-formula: no aliases; addresses come into being at first login.'
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - chatmail_package: postfix-packages

{% if settings.disable_mail -%}
postfix-service:
  chatmail_service.dead:
    - names: {{ [unit, "postfix"] | unique | json }}
    - enable: False

postfix-masked:
  chatmail_service.masked:
    - names: {{ [unit, "postfix"] | unique | json }}
    - require:
      - chatmail_service: postfix-service
{%- else -%}
postfix-enabled:
  chatmail_service.enabled:
    - name: postfix
    - unmask: True
    - require:
      - chatmail_package: postfix-packages

# A restart, since it alone copies resolv.conf and the trusted certificates into the chroot again, and smtpd keeps the
# relay's certificate as long as it runs.
postfix-service:
  chatmail_service.running:
    - name: {{ unit }}
    - unmask: True
    - require:
      - chatmail_service: postfix-enabled
      - chatmail_service: mta_sts-service
      - chatmail_service: chatmaild-chatmail-dane-policy-service
      - chatmail_service: chatmaild-chatmail-transport-service
      - chatmail_service: postfix-sasl-service
    - watch:
      - chatmail_units: postfix-drop-ins
      - file: unbound-resolv-conf
      - tls-certificate
{%- endif %}
