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

{% for part, source in [("pages", "salt://chatmail/website/files/src")] + ([("own", settings.www_folder)] if own else []) %}
website-{{ part }}-sources:
  file.recurse:
    - name: {{ sources }}/{{ part }}
    - source: {{ source | json }}
    - clean: True
    - user: root
    - group: root
    - dir_mode: '0755'
    - file_mode: '0644'
    - require_in:
      - chatmail_website: website-built
{% endfor %}

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
{% endif %}
