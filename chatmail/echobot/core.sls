# Delta Chat's core, with which the relay's own bots do what clients do; where the pillar wants one of them.
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.preflight

{% if settings.bots %}
# Delta Chat's core 2.65.0: the archive for each kind of machine, and the hash of the program in it.
{% set release = "https://github.com/chatmail/core/releases/download/v2.65.0/deltachat_rpc_server-2.65.0-py3-none-" %}
{% set source, sha256 = {
  "x86_64": (
    release ~ "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64.whl",
    "fc4945c3179499f5b69579d224e3da2f1f4bfa5ce927db4253fba844bec4ad1a",
  ),
  "aarch64": (
    release ~ "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
    "01c0f9ff0ce1fe8c3f99ba8f66d056f75653fdf2e39c00decac374285097c33c",
  ),
}.get(grains["cpuarch"], ("", "")) %}
echobot-program:
  chatmail_binary.installed:
    - name: /usr/local/bin/deltachat-rpc-server
    - source: {{ (settings.echobot_source or source) | json }}
    - sha256: {{ (settings.echobot_sha256 or sha256) | lower | json }}
    - otherwise: >-
        Everything else works without it. Copy the program to the host and name it in the pillar (echobot_source: a
        path or URL, echobot_sha256: its hash), or do without (echobot: false,
        operator_bot: false), then apply again.
{% endif %}
