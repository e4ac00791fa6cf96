# iroh-relay: real-time channels of clients that cannot reach each other, behind nginx. Where the pillar names another
# relay, or none, it is stopped.
{% from "chatmail/map.jinja" import settings with context %}
{% from "chatmail/sandbox.jinja" import sandbox %}

include:
  - chatmail.preflight

{% if settings.run_iroh_relay %}
# Release 0.35.0: the archive for each kind of machine, and the hash of the program in it.
{% set release = "https://github.com/n0-computer/iroh/releases/download/v0.35.0/iroh-relay-v0.35.0-" %}
{% set source, sha256 = {
  "x86_64": (
    release ~ "x86_64-unknown-linux-musl.tar.gz",
    "45c81199dbd70f8c4c30fef7f3b9727ca6e3cea8f2831333eeaf8aa71bf0fac1",
  ),
  "aarch64": (
    release ~ "aarch64-unknown-linux-musl.tar.gz",
    "f8ef27631fac213b3ef668d02acd5b3e215292746a3fc71d90c63115446008b1",
  ),
}.get(grains["cpuarch"], ("", "")) %}
iroh_relay-program:
  chatmail_binary.installed:
    - name: /usr/local/bin/iroh-relay
    - source: {{ (settings.iroh_relay_source or source) | json }}
    - sha256: {{ (settings.iroh_relay_sha256 or sha256) | lower | json }}
    - otherwise: >-
        Everything else works without it. Copy the program to the host and name it in the pillar (iroh_relay_source: a
        path or URL, iroh_relay_sha256: its hash), or do without (iroh_relay: ''), then apply again.

iroh_relay-user:
  user.present:
    - name: iroh
    - system: True
    - home: /nonexistent
    - createhome: False
    - shell: /usr/sbin/nologin

iroh_relay-conf:
  file.managed:
    - name: /etc/iroh-relay.toml
    - source: salt://chatmail/iroh_relay/files/etc/iroh-relay.toml
    - user: root
    - group: root
    - mode: '0644'

{{ sandbox("iroh_relay", unprivileged=["iroh-relay"]) }}

iroh_relay-unit:
  file.managed:
    - name: /etc/systemd/system/iroh-relay.service
    - source: salt://chatmail/iroh_relay/files/etc/systemd/system/iroh-relay.service
    - user: root
    - group: root
    - mode: '0644'

iroh_relay-service:
  chatmail_service.running:
    - name: iroh-relay
    - enable: True
    - require:
      - user: iroh_relay-user
    - watch:
      - chatmail_binary: iroh_relay-program
      - file: iroh_relay-conf
      - file: iroh_relay-unit
      - chatmail_units: iroh_relay-drop-ins
{% else %}
iroh_relay-service:
  chatmail_service.dead:
    - name: iroh-relay
    - enable: False
{% endif %}
