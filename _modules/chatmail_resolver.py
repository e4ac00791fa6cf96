"""
Whether the host finds names in the DNS, and a name server for it where it does not.
"""

import os
import socket
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")
# How the C library says that there is no such name, or no address of it: that is an answer (getaddrinfo(3)).
NO_SUCH_NAME = {socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY}
LOOKUP_S = 5.0
ATTEMPTS = 4


def __virtual__():
    return "chatmail_resolver"


def works(names):
    """
    Whether the host gets answers from the DNS, as apt and every other program would.

    names
        Names to look up, absolute; an answer for any one of them will do, also that it does not exist.

    With name servers that are silent this takes 10 s for each of them and each name (resolv.conf(5)).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_resolver.works '[debian.org.]'
    """
    for name in names:
        try:
            socket.getaddrinfo(name, None)
        except socket.gaierror as error:
            if error.errno not in NO_SUCH_NAME:
                continue
        return True
    return False


def serves(server, names):
    """
    Whether the name server at the IP address ``server`` answers for any one of ``names``, within some 20 s each. It may
    have begun a moment ago, and know nothing yet.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_resolver.serves 127.0.0.1 '[debian.org.]'
    """
    # Not before it is installed, in the same run.
    import dns.exception
    import dns.message
    import dns.query
    import dns.rcode

    for name in names:
        query = dns.message.make_query(name, "A")
        for _ in range(ATTEMPTS):
            try:
                answer, _tcp = dns.query.udp_with_fallback(query, server, timeout=LOOKUP_S)
            except (dns.exception.DNSException, OSError, EOFError):
                continue
            if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return True
            break
    return False


def named(server):
    """
    Whether ``/etc/resolv.conf`` names ``server``, an IP address.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_resolver.named 9.9.9.9
    """
    try:
        lines = RESOLV_CONF.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split()[:2] == ["nameserver", server] for line in lines)


def fall_back(server, names):
    """
    Make ``server`` the host's only name server, in a file of its own in the place of what ``/etc/resolv.conf`` was; if
    it does not answer for any one of ``names`` either, all is put back.

    Returns whether it answers.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_resolver.fall_back 9.9.9.9 '[debian.org.]'
    """
    kept = RESOLV_CONF.with_name("resolv.conf.kept-by-chatmail")
    # A symbolic link that leads nowhere, as after systemd-resolved was stopped, is there too.
    if os.path.lexists(RESOLV_CONF):
        RESOLV_CONF.rename(kept)
    RESOLV_CONF.write_text(f"# By chatmail-formula, until unbound runs.\nnameserver {server}\n")
    RESOLV_CONF.chmod(0o644)
    if works(names):
        kept.unlink(missing_ok=True)
        return True
    RESOLV_CONF.unlink()
    if os.path.lexists(kept):
        kept.rename(RESOLV_CONF)
    return False
