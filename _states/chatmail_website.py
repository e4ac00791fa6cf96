"""State for the relay's web pages; the work is in the execution module ``chatmail_website``."""

from salt.exceptions import CommandExecutionError


def __virtual__():
    return "chatmail_website"


def built(name, pages, settings, own=None):
    """
    The web pages are what their sources and the settings make of them; they change as a whole.

    .. code-block:: yaml

        website-built:
          chatmail_website.built:
            - name: /var/www/chatmail
            - pages: /usr/local/share/chatmail/website/pages
            - settings: {mail_domain: chat.example.org, tls_mode: acme}

    name
        Path of the link to the pages, the web server's root.
    pages
        Directory of the formula's sources.
    settings
        Those of ``map.jinja``.
    own
        Directory of the operator's sources, or of pages that stay as they are; default none.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"the pages at {name} are up to date"}
    if "chatmail_website.build" not in __salt__:
        comment = "the pages would be built" if __opts__["test"] else "Debian's python3-markdown and -segno are missing"
        ret.update(result=None if __opts__["test"] else False, comment=comment)
        return ret
    there = __salt__["chatmail_website.published"](name)
    try:
        wanted = __salt__["chatmail_website.build"](settings, pages, own)
        if "index.html" not in wanted:
            if __opts__["test"]:
                # The sources are not on a bare host yet.
                ret.update(result=None, comment="the pages would be built")
                return ret
            raise CommandExecutionError("there is neither index.html nor src/index.md")
        ret["changes"] = _differences(there, wanted)
        if not ret["changes"]:
            return ret
        if __opts__["test"]:
            ret.update(result=None, comment=f"the pages at {name} would change")
            return ret
        __salt__["chatmail_website.publish"](name, wanted)
    except (CommandExecutionError, OSError) as error:
        stay = "the old ones stay" if there else "there are none yet"
        comment = f"The web pages cannot be built, {stay}: {error}. Fix it and apply chatmail.website."
        ret.update(result=False, changes={}, comment=comment)
        return ret
    ret["comment"] = f"the pages at {name} were built"
    return ret


def _differences(there, wanted):
    return {
        path: {
            "old": "as it was" if path in there else "missing",
            "new": "built" if path in wanted else "removed",
        }
        for path in sorted(wanted.keys() | there.keys())
        if wanted.get(path) != there.get(path)
    }


def absent(name):
    """
    There are no web pages at ``name``, the path of the link to them.

    .. code-block:: yaml

        website-disabled:
          chatmail_website.absent:
            - name: /var/www/chatmail
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"there are no pages at {name}"}
    if "chatmail_website.published" not in __salt__:
        # They were never built: what builds them is not installed.
        return ret
    there = __salt__["chatmail_website.published"](name)
    if not there:
        return ret
    ret["changes"] = _differences(there, {})
    if __opts__["test"]:
        ret.update(result=None, comment=f"the pages at {name} would be removed")
        return ret
    try:
        __salt__["chatmail_website.withdraw"](name)
    except (CommandExecutionError, OSError) as error:
        ret.update(result=False, changes={}, comment=f"The web pages are not removed: {error}.")
        return ret
    ret["comment"] = f"the pages at {name} were removed"
    return ret
