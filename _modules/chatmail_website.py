"""
The relay's web pages: built from their sources (``_utils/chatmail_pages.py``) and published as a whole or not at all.
"""

import shutil
import tempfile
from pathlib import Path

from salt.exceptions import CommandExecutionError

import chatmail_words

try:
    import chatmail_pages

    HAS_LIBRARIES = True
except ImportError:
    HAS_LIBRARIES = False


def __virtual__():
    if not HAS_LIBRARIES:
        return False, "Debian's python3-markdown and python3-segno are not installed"
    return "chatmail_website"


def account_link(settings):
    """
    Return the link with which an app makes itself an address on the relay of ``settings`` (those of ``map.jinja``), or
    None where there is not one for everybody (``_utils/chatmail_words.py``).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_website.account_link '{mail_domain: chat.example.org, tls_mode: acme}'
    """
    return chatmail_words.account_link(settings)


def qr_code(text):
    """
    Return the QR code of a text as SVG, with room for a mark in its middle (ISO/IEC 18004, error correction H).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_website.qr_code DCACCOUNT:https://chat.example.org/new
    """
    return chatmail_pages.qr_code(text)


def build(settings, pages, own=None):
    """
    Build the web pages in memory.

    settings
        Those of ``map.jinja``.
    pages
        Directory of the formula's sources: ``*.md``, their ``layout.html``, ``texts``, and files that stay as they are.
    own
        Directory of the operator; default none.

    Returns a dict of relative path to content (bytes). Raises CommandExecutionError, which names file and line.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_website.build '{mail_domain: _chat.example.org, tls_mode: self}' /srv/pages
    """
    try:
        return chatmail_pages.build(settings, pages, own)
    except chatmail_pages.SourceError as error:
        raise CommandExecutionError(str(error)) from error


def published(name):
    """
    Return the web pages at ``name`` as a dict of relative path to content (bytes), empty where there are none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_website.published /var/www/chatmail
    """
    return {relative: path.read_bytes() for relative, path in chatmail_pages.files(Path(name)).items()}


def publish(name, files):
    """
    Put web pages at ``name``, all at once: a link there changes from the directory of the old to that of the new ones.

    name
        Path of the link. Where something else stands there, an error is raised.
    files
        Dict of relative path to content (bytes), as ``build`` returns it.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_website.publish /var/www/chatmail '{index.html: ...}'
    """
    link = _link(name)
    # No package of ours makes /var/www.
    link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f".{link.name}-", dir=link.parent))
    directory.chmod(0o755)
    for relative, content in files.items():
        path = directory / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
    for path in directory.rglob("*/"):
        path.chmod(0o755)
    new = directory.with_name(directory.name + ".link")
    new.symlink_to(directory.name)
    new.replace(link)
    _remove_directories(link, keep=directory)


def withdraw(name):
    """
    Remove what ``publish`` put at ``name``.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_website.withdraw /var/www/chatmail
    """
    link = _link(name)
    link.unlink(missing_ok=True)
    _remove_directories(link)


def _link(name):
    link = Path(name)
    if link.exists() and not link.is_symlink():
        raise CommandExecutionError(f"{name} is not the formula's link: move it away and apply again")
    return link


def _remove_directories(link, keep=None):
    """Remove old pages, and what an interrupted apply left."""
    for other in link.parent.glob(f".{link.name}-*"):
        if other.is_symlink():
            other.unlink()
        elif other != keep:
            shutil.rmtree(other)
