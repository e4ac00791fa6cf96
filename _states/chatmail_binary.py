"""States for single programs that Debian does not have; the work is in the execution module ``chatmail_binary``."""

from salt.exceptions import CommandExecutionError


def __virtual__():
    return "chatmail_binary"


def installed(name, source, sha256, otherwise):
    """
    A program is in place that has a pinned hash. One that has it is never fetched again.

    .. code-block:: yaml

        iroh-relay-program:
          chatmail_binary.installed:
            - name: /usr/local/bin/iroh-relay
            - source: https://example.org/iroh-relay-v0.35.0-x86_64-unknown-linux-musl.tar.gz
            - sha256: 45c81199dbd70f8c4c30fef7f3b9727ca6e3cea8f2831333eeaf8aa71bf0fac1
            - otherwise: "Set iroh_relay: '' in the pillar."

    name
        Path of the program.
    source
        URL, or absolute path on the host: the program, or a tar archive with a file of its name.
    sha256
        Hash of the program itself, in hexadecimal.
    otherwise
        What to do where this source cannot serve; becomes part of the comment.
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": f"{name} has the SHA-256 {sha256}"}
    old = __salt__["chatmail_binary.sha256"](name)
    if old and old == sha256:
        return ret
    if not source or not sha256:
        ret.update(result=False, comment=f"{name}: no program is known for this kind of machine. {otherwise}")
        return ret
    ret["changes"] = {name: {"old": old or "missing", "new": sha256}}
    if __opts__["test"]:
        ret.update(result=None, comment=f"{name} would be fetched from {source}")
        return ret
    try:
        __salt__["chatmail_binary.install"](name, source, sha256)
    except CommandExecutionError as error:
        kept = f"{name} stays as it was" if old else f"{name} is still missing"
        ret.update(result=False, changes={}, comment=f"{error}; {kept}. {otherwise}")
        return ret
    ret["comment"] = f"{name} was fetched from {source}"
    return ret
