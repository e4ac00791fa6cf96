# One script by which a renewed certificate reaches the daemons.
include:
  - chatmail.preflight

tls-reload-script:
  file.managed:
    - name: /usr/local/lib/chatmail/reload-certificate
    - source: salt://chatmail/tls/files/usr/local/lib/chatmail/reload-certificate
    - user: root
    - group: root
    - mode: '0755'
    - makedirs: True
