# One script by which a renewed certificate reaches the daemons.
{% from "chatmail/map.jinja" import settings, only with context %}

include:
  - chatmail.preflight

tls-reload-script:
  file.managed:
    - name: /usr/local/lib/chatmail/reload-certificate
    - source: salt://chatmail/tls/files/usr/local/lib/chatmail/reload-certificate.j2
    - template: jinja
    - context: {settings: {{ only("release") }}}
    - user: root
    - group: root
    - mode: '0755'
    - makedirs: True
