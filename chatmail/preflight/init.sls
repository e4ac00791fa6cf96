# Runs first in every apply, also of a single component: nothing is installed or changed when the settings are wrong
# or the host is not fit. Everything that is wrong is reported at once.
{% from "chatmail/map.jinja" import settings with context %}

include:
  - chatmail.preflight.settings

{% set ports = salt["chatmail_settings.ports"](settings) %}
preflight:
  chatmail_preflight.passed:
    - ports: {{ ports | json }}
    - takeover: {{ settings.takeover }}
    - addresses: {{ [settings.mtail_address] if settings.mtail_address else [] }}
    - mailboxes:
        mail_domain: {{ settings.mail_domain | json }}
        mailboxes_dir: {{ settings.mailboxes_dir | json }}
        rename_from: {{ settings.rename_from | json }}
    # With test=True Salt goes on after a failure in spite of failhard.
    - require:
      - chatmail_settings: settings-valid
    - order: 2
    - failhard: True

# After the other checks that refuse a host early, and before everything that changes it.
preflight-adopted:
  chatmail_preflight.adopted:
    - require:
      - chatmail_preflight: preflight
    - order: 200
    - failhard: True

{% import_text "chatmaild/pyproject.toml" as project %}
{% set version = project | regex_search('version = "([^"]+)"') | first %}
# For functions that have no pillar, as under salt-ssh: what chatmail_relay.status compares the host with. Last, so that
# an apply that is stopped, by a wrong mail domain for instance, leaves what the host is.
preflight-settings:
  file.managed:
    - name: /etc/chatmail/relay.json
    - contents: {{ {"settings": settings, "ports": ports, "version": version} | json | json }}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - require:
      - chatmail_preflight: preflight-adopted
    - order: last
