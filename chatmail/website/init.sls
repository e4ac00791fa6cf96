# The web pages, from Markdown and one layout, filled in from the settings. `state.apply chatmail.website` updates them alone.
{% from "chatmail/map.jinja" import settings with context %}
{% set sources = "/usr/local/share/chatmail/website" %}
{% set own = settings.www_folder not in ("", "disabled") %}

include:
  - chatmail.preflight

{% if settings.www_folder == "disabled" %}
website-disabled:
  chatmail_website.absent:
    - name: /var/www/chatmail
{% else %}
website-packages:
  chatmail_package.installed:
    - pkgs: [python3-markdown, python3-segno]
    - reload_modules: True

website-pages-sources:
  file.recurse:
    - name: {{ sources }}/pages
    - source: salt://chatmail/website/files/src
    - clean: True
    - user: root
    - group: root
    - dir_mode: '0755'
    - file_mode: '0644'
{% if own and not salt["cp.list_master"](prefix=settings.www_folder[7:] ~ "/") %}

website-own-sources:
  test.fail_without_changes:
    - comment: >-
        www_folder is {{ settings.www_folder }}, but there is no file below etc/roots/{{ settings.www_folder[7:] }}. Put your
        pages there, or leave www_folder out. The pages on the relay stay as they are.
{% elif own %}

website-own-sources:
  file.recurse:
    - name: {{ sources }}/own
    - source: {{ settings.www_folder | json }}
    - clean: True
    - user: root
    - group: root
    - dir_mode: '0755'
    - file_mode: '0644'
{% endif %}

# A page that cannot be built leaves the old pages in place.
website-built:
  chatmail_website.built:
    - name: /var/www/chatmail
    - pages: {{ sources }}/pages
    {%- if own %}
    - own: {{ sources }}/own
    {%- endif %}
    - settings: {{ settings | json }}
    - require:
      - chatmail_package: website-packages
      - file: website-pages-sources
      {%- if own %}
      - website-own-sources
      {%- endif %}
{% endif %}
