# nginx: the web pages, one-tap addresses, and everything over port 443 for clients behind strict firewalls.
{% from "chatmail/map.jinja" import settings, only with context %}
{% from "chatmail/sandbox.jinja" import sandbox %}
{% from "chatmail/website/languages.jinja" import languages with context %}

include:
  - chatmail.preflight
  - chatmail.tls
  - chatmail.website

# python3-dnspython: the module that knows the MTA-STS policy does not load without.
nginx-packages:
  chatmail_package.installed:
    - pkgs: [nginx, libnginx-mod-stream, python3-dnspython]
    - reload_modules: True

# Operators' own servers; nothing here is ours.
nginx-operators-directory:
  file.directory:
    - name: /etc/nginx/chatmail.d
    - user: root
    - group: root
    - mode: '0755'
    - require:
      - chatmail_package: nginx-packages

{% for file in ["config-v1.1.xml"] + ([] if settings.ipv4_relay else ["mta-sts.txt"]) %}
nginx-{{ file | replace(".", "-") }}:
  file.managed:
    - name: /usr/local/share/chatmail/well-known/{{ file }}
    - source: salt://chatmail/nginx/files/usr/local/share/chatmail/well-known/{{ file }}.j2
    - template: jinja
    - context: {settings: {{ only("mail_domain mail_domain_bare") }}}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - require:
      - chatmail_package: nginx-packages
{% endfor %}

nginx-conf:
  file.managed:
    - name: /etc/nginx/nginx.conf
    - source: salt://chatmail/nginx/files/etc/nginx/nginx.conf.j2
    - template: jinja
    - context: {settings: {{ only("disable_ipv6 filtermail_host filtermail_http_port_incoming ipv4_relay
        mail_domain_bare max_imap_connections max_message_size max_smtp_connections
        metrics_page release run_iroh_relay tls_cert_path tls_key_path tls_mode") }}, languages: {{ languages(settings) }}}
    - user: root
    - group: root
    - mode: '0644'
    # With it nginx looks at the operators' files and at the certificate, too.
    - check_cmd: nginx -t -q -c
    - require:
      - chatmail_package: nginx-packages
      - file: nginx-operators-directory
      - tls-certificate

# Operators' files may have become wrong while nginx.conf stayed as it is.
nginx-valid:
  chatmail_nginx.valid:
    - name: /etc/nginx/nginx.conf
    - require:
      - file: nginx-conf

nginx-unit:
  file.managed:
    - name: /etc/systemd/system/nginx.service.d/10-chatmail.conf
    - source: salt://chatmail/nginx/files/etc/systemd/system/nginx.service.d/10-chatmail.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    # A start with a configuration that is refused would end what runs.
    - require:
      - chatmail_nginx: nginx-valid

{{ sandbox("nginx", privileged=["nginx"], further=["nginx-unit"]) }}

# Its limits hold from a start on.
nginx-restart:
  cmd.run:
    - name: systemctl try-restart nginx
    - onchanges:
      - chatmail_units: nginx-drop-ins

# A reload keeps the mail sessions that came by port 443.
nginx-service:
  chatmail_service.running:
    - name: nginx
    - enable: True
    - reload: True
    - require:
      - cmd: nginx-restart
      - chatmail_nginx: nginx-valid
    - watch:
      - file: nginx-conf
      - tls-certificate
