"""
Says what a relay offers, once it is there.
"""

from chatmail_words import account_link


def __virtual__():
    return "chatmail_relay"


def ready(name, settings):
    """
    Say where the relay's page is, the link that makes an address, and what shows whether all is well. Changes nothing.

    .. code-block:: yaml

        ready-told:
          chatmail_relay.ready:
            - settings: {{ settings | json }}
            - order: last

    settings
        Those of ``map.jinja``.
    """
    if settings["disable_mail"]:
        lines = ["Postfix and Dovecot are stopped (disable_mail); nobody has mail here."]
    else:
        lines = [f"{settings['mail_domain']} is ready."]
        if settings["www_folder"] != "disabled":
            lines.append(f"page     https://{settings['mail_domain_bare']}/")
        if settings["invite_only"]:
            lines.append("invite   ./relay invite makes one; nobody creates an address without")
        elif link := account_link(settings):
            lines.append(f"address  {link} makes one, opened or scanned in Delta Chat")
    lines.append("status   ./relay status")
    return {"name": name, "changes": {}, "result": True, "comment": "\n".join(lines)}
