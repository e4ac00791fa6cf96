"""
The relay's DNS records: which must exist and which should, how they are served, and what to do about a difference.

Look-ups go to the authoritative servers. Under salt-ssh all functions run on the controller
(``_wrapper/chatmail_dns.py``); only the DKIM record is asked from the host.
"""

from pathlib import Path

import chatmail_zone
from chatmail_errors import CommandExecutionError
from chatmail_session import NoController, ask

try:
    from chatmail_authoritative import ROOT_SERVERS
    from chatmail_survey import CHECK_S, Survey
    from chatmail_update import publish as publish_records

    HAS_DNSPYTHON = True
except ImportError:
    HAS_DNSPYTHON = False

_SETTINGS = '{% from "chatmail/map.jinja" import settings with context %}{{ settings | json }}'

# Under salt-ssh the wrapper says so.
__outputter__ = dict.fromkeys(("records", "zone", "check", "publish"), "chatmail")


def __virtual__():
    if not HAS_DNSPYTHON:
        return False, "Debian's python3-dnspython is not installed"
    return "chatmail_dns"


def _settings():
    """What ``map.jinja`` makes of the pillar."""
    return __salt__["slsutil.renderer"](string=_SETTINGS, default_renderer="jinja|json")


def mta_sts_policy(domain):
    """
    Return the text of the MTA-STS policy file of ``domain`` (RFC 8461 section 3.2), with its line ends.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.mta_sts_policy chat.example.org
    """
    return chatmail_zone.mta_sts_policy(domain)


def facts(settings=None):
    """
    Return what only the host knows of its records: ``ipv4`` and ``ipv6`` addresses, the ``dkim`` records and, of its
    ``certificate``, what ``chatmail_cert.facts`` returns; each none where it is not known.

    settings
        Those of ``map.jinja``; by default, what it makes of this host's pillar.

    CLI Example:

    .. code-block:: bash

        salt-call --local chatmail_dns.facts
    """
    settings = settings or _settings()
    try:
        dkim = __salt__["chatmail_dkim.records"](domain=settings["mail_domain_bare"])
    except (CommandExecutionError, KeyError):
        # Before the first apply there is neither a key nor what reads it.
        dkim = None
    try:
        certificate = __salt__["chatmail_cert.facts"](settings["tls_cert_path"])
    except (CommandExecutionError, KeyError):
        certificate = None
    ipv4, ipv6 = chatmail_zone.public_addresses(
        settings, __salt__["grains.get"]("ipv4", []) + __salt__["grains.get"]("ipv6", [])
    )
    return {"ipv4": ipv4, "ipv6": ipv6, "dkim": dkim, "certificate": certificate}


def _relay(settings, known=None, initial=False):
    """
    Return the settings (the pillar's, unless they are given) and the records that are wanted; for a relay whose mail
    domain is an address, none.

    ``known`` are :func:`facts`, as they are or as JSON has them.
    """
    settings = settings or _settings()
    if settings["ipv4_relay"]:
        return settings, []
    known = known or facts(settings)
    ipv4, ipv6 = (None if known[family] is None else tuple(known[family]) for family in ("ipv4", "ipv6"))
    wanted = chatmail_zone.wanted(settings, ipv4, ipv6, known["dkim"], known["certificate"])
    return settings, [record for record in wanted if record.initial or not initial]


def _nothing(settings):
    return f"The mail domain is the address {settings['ipv4_relay']}: it needs no DNS records."


def _start(settings):
    return settings["dns_root_servers"] or ROOT_SERVERS


def _publishable(settings):
    return bool(settings["dns_update_server"] and settings["dns_update_key_file"])


def records(settings=None):
    """
    Return the records that a relay must have (``required``) and should have, each a mapping: ``name``, ``type``,
    ``values`` (TXT in one piece; none where they are not known) and ``required``.

    settings
        Those of ``map.jinja``; by default, what it makes of this host's pillar.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.records
    """
    return [
        {"name": one.name, "type": one.type, "values": list(one.values or ()), "required": one.required}
        for one in _relay(settings)[1]
    ]


def zone(settings=None, file=None):
    """
    Return the records as text of a zone file (RFC 1035 section 5.1), to be imported at a provider.

    settings
        As in :func:`records`.
    file
        Path of a file to which the text is written; by default, none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.zone file=relay.zone
    """
    settings, wanted = _relay(settings)
    text = chatmail_zone.zone_text(wanted) if wanted else f"; {_nothing(settings)}\n"
    if file:
        Path(file).write_text(text)
    return text


def check(settings=None, known=None, initial=False):
    """
    Compare what the domain's authoritative servers say, all of them, with what is wanted.

    settings
        As in :func:`records`.
    known
        Result of :func:`facts`; by default, this host's.
    initial
        Only what a certificate authority needs to find.

    Returns a mapping: ``success``, whether all required records are right; ``result``, the same in words; ``report``,
    the text for people; ``servers``, which answer; ``required`` and ``recommended``, by record mappings with
    ``status``, ``wanted``, ``found``, and where there is something to say or to do, ``remark``, ``do`` and the lines to
    ``enter``; ``unpublished``, the records that :func:`publish` would change. A ``status`` is ok, differs (works, in
    another way), missing, wrong, or unknown. The exit code is 1 unless all required records are right. It takes 30 s at
    most.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.check
    """
    settings, wanted = _relay(settings, known, initial)
    if not wanted:
        return Survey.NOTHING | {"result": _nothing(settings), "report": _nothing(settings)}
    return Survey(wanted, _start(settings)).as_result(_publishable(settings))


def publish(settings=None, known=None, initial=False, seconds=120):
    """
    Publish by dynamic update (RFC 2136) the records that are missing or wrong, and wait until all authoritative servers
    serve them. Records of the same name that serve other purposes stay.

    The pillar names the server (``dns_update_server``) and a key file (``dns_update_key_file``). Where the file is not
    on this host, the salt-ssh that applies states to it is asked: the key stays on that machine.

    settings, known
        As in :func:`check`.
    initial
        Publish only what a certificate authority needs to find; nothing else is missed, though all is told.
    seconds
        How long to wait.

    Returns a mapping: ``success``; ``result`` in words: without a server, what to enter at the provider; ``published``,
    old and new by record; ``check``, what :func:`check` returns after that. Raises ``CommandExecutionError`` where the
    update is refused or not served in time.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.publish
    """
    settings = settings or _settings()
    if settings["ipv4_relay"]:
        return {"success": True, "result": _nothing(settings), "published": {}, "check": Survey.NOTHING}
    known = known or facts(settings)
    if not _publishable(settings):
        # All that is to be entered is told by whatever stops first.
        result = Survey(_relay(settings, known)[1], _start(settings)).as_result(initial=initial)
        return {"success": result["success"], "result": result["report"], "published": {}, "check": result}
    settings, wanted = _relay(settings, known, initial)
    server, key_file = settings["dns_update_server"], settings["dns_update_key_file"]
    if Path(key_file).exists():
        published, survey = publish_records(wanted, _start(settings), server, key_file, seconds=seconds)
        return _published(published, survey)
    try:
        return ask({"service": "publish", "facts": known, "initial": initial}, seconds + 2 * CHECK_S)
    except NoController as error:
        survey = Survey(wanted, _start(settings))
        if survey.unpublished():
            raise CommandExecutionError(
                f"the TSIG key (dns_update_key_file) is not on this machine, and {error}"
            ) from None
        return _published({}, survey)


def _published(changes, survey):
    """What :func:`publish` returns for ``changes`` by record and the ``Survey`` after them."""
    after = survey.as_result(publishable=True)
    lines = [f"Published: {', '.join(changes)}." if changes else "There was nothing to publish."]
    lines.append(after["result"] if after["success"] else after["report"])
    return {"success": after["success"], "result": "\n".join(lines), "published": changes, "check": after}
