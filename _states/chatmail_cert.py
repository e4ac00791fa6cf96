"""States for the relay's certificate; the work is in the execution module ``chatmail_cert``."""

from salt.exceptions import CommandExecutionError

# A self-signed certificate lasts for 100 years; a year ahead of its end is early enough.
RENEW_DAYS = 365
_TMP = ("/tmp/", "/var/tmp/")  # noqa: S108 - nothing is written there
CANNOT_LOOK = "python3-cryptography, which reads certificates, is not installed yet"


def __virtual__():
    return "chatmail_cert"


def _unreadable_yet():
    """Whether this is a test run on a host where the execution module's library would be installed first."""
    return __opts__["test"] and "chatmail_cert.problems" not in __salt__


def self_signed(name, key, alt_names):
    """
    A self-signed certificate and its key are in place, match, name the relay and do not end within a year.

    .. code-block:: yaml

        tls-certificate:
          chatmail_cert.self_signed:
            - name: /etc/ssl/certs/mailserver.pem
            - key: /etc/ssl/private/mailserver.key
            - alt_names: [_chat.example.org]

    name
        Path of the certificate (PEM, mode 0644).
    key
        Path of the private key (PEM, mode 0600).
    alt_names
        DNS names or IPv4 addresses that the certificate must carry, the first one as its subject.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} is right for {', '.join(alt_names)}"}
    if _unreadable_yet():
        ret.update(result=None, comment=f"{name} would be made if it is not right; {CANNOT_LOOK}")
        return ret
    problems = __salt__["chatmail_cert.problems"](name, key, alt_names, RENEW_DAYS)
    if not problems:
        return ret
    ret["changes"] = {name: {"old": "; ".join(problems), "new": f"self-signed for {', '.join(alt_names)}"}}
    if __opts__["test"]:
        ret.update(result=None, comment=f"{name} would be made: {'; '.join(problems)}")
        return ret
    try:
        __salt__["chatmail_cert.make_self_signed"](name, key, alt_names)
    except CommandExecutionError as error:
        ret.update(result=False, changes={}, comment=str(error))
        return ret
    problems = __salt__["chatmail_cert.problems"](name, key, alt_names, RENEW_DAYS)
    if problems:
        ret.update(result=False, comment=f"made, but not right: {'; '.join(problems)}")
        return ret
    ret["comment"] = f"{name} was made"
    return ret


def acme_key(name):
    """
    A private key of the wanted type is in acmetool's store; all certificates of the relay are for this key.

    .. code-block:: yaml

        tls-acme-key:
          chatmail_cert.acme_key:
            - name: ecdsa

    name
        ``ecdsa`` or ``rsa``.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"the {name} key is there"}
    if __opts__["test"] and "chatmail_cert.acme_key_id" not in __salt__:
        ret.update(result=None, comment=f"a key would be made if there is none; {CANNOT_LOOK}")
    elif not __salt__["chatmail_cert.acme_key_id"](name):
        if __opts__["test"]:
            ret.update(result=None, changes={name: {"old": None, "new": "a key"}}, comment="a key would be made")
        else:
            made = __salt__["chatmail_cert.make_acme_key"](name)
            ret.update(changes={name: {"old": None, "new": made}}, comment=f"the {name} key was made")
    return ret


def acme(name, key, alt_names, directory_url, email=""):
    """
    A certificate of a public authority is in place, for these names, and not due for renewal.

    The network is asked only when a certificate is to be got. An authority that does not answer leaves a certificate
    that is still right in force, with a warning.

    .. code-block:: yaml

        tls-certificate:
          chatmail_cert.acme:
            - name: /var/lib/acme/live/chat.example.org/fullchain
            - key: /var/lib/acme/live/chat.example.org/privkey
            - alt_names: [chat.example.org, www.chat.example.org, mta-sts.chat.example.org]
            - directory_url: https://acme-v02.api.letsencrypt.org/directory

    name
        Path where acmetool puts the certificate with its chain.
    key
        Path where it puts the private key.
    alt_names
        DNS names that the certificate must carry.
    directory_url
        The authority's directory (RFC 8555 section 7.1.1).
    email
        Where the authority writes to; empty for nowhere.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} is right for {', '.join(alt_names)}"}
    if _unreadable_yet():
        ret.update(result=None, comment=f"{name} would be got if it is not right; {CANNOT_LOOK}")
        return ret
    problems = __salt__["chatmail_cert.problems"](name, key, alt_names)
    if not problems and not __salt__["chatmail_cert.acme_due"](name):
        return ret
    found = "; ".join(problems) or f"{name} is due for renewal"
    changes = {name: {"old": found, "new": f"from {directory_url} for {', '.join(alt_names)}"}}
    if __opts__["test"]:
        ret.update(result=None, changes=changes, comment=f"a certificate would be got: {found}")
        return ret
    try:
        __salt__["chatmail_cert.acme_obtain"](directory_url, email, alt_names)
    except CommandExecutionError as error:
        if problems:
            ret.update(
                result=False,
                comment=f"no certificate from {directory_url}: {error}. "
                "What stands in the way may be gone soon: fix it, then apply again.",
            )
        else:
            ret["warnings"] = [f"{name} is due for renewal, and it is not renewed: {error}"]
        return ret
    problems = __salt__["chatmail_cert.problems"](name, key, alt_names)
    if problems:
        ret.update(result=False, comment=f"got, but not right: {'; '.join(problems)}")
        return ret
    ret.update(changes=changes, comment=f"{name} was got from {directory_url}")
    return ret


def usable(name, key, alt_names):
    """
    A certificate and a key that the operator put on the host match, cover the names, are complete and valid now.

    .. code-block:: yaml

        tls-certificate:
          chatmail_cert.usable:
            - name: /etc/ssl/own/fullchain.pem
            - key: /etc/ssl/own/privkey.pem
            - alt_names: [chat.example.org]

    name
        Path of the certificate with its chain (PEM).
    key
        Path of the private key (PEM, without passphrase).
    alt_names
        DNS names that the certificate must carry.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} is right for {', '.join(alt_names)}"}
    if _unreadable_yet():
        ret.update(result=None, comment=f"{name} would be looked at; {CANNOT_LOOK}")
        return ret
    problems = __salt__["chatmail_cert.problems"](name, key, alt_names, chain=True)
    # Dovecot's unit has PrivateTmp=.
    problems += [f"{path} is where Dovecot has a directory of its own" for path in (name, key) if path.startswith(_TMP)]
    if problems:
        ret.update(
            result=False,
            comment=f"{'; '.join(problems)}. The pillar's tls_external_cert_and_key names these files: "
            "put a right pair there, or remove the setting, then apply again.",
        )
    return ret
