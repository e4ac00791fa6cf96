"""
The relay's web pages: Markdown and one layout, filled in from the settings, built as a whole or not at all.

``build`` knows nothing of the host, so that ``make web`` shows the same pages on the controller.
"""

import io
import re
import shutil
import tempfile
import traceback
from pathlib import Path

import jinja2
from markupsafe import Markup
from salt.exceptions import CommandExecutionError

import chatmail_words

try:
    import markdown
    import segno

    HAS_LIBRARIES = True
except ImportError:
    HAS_LIBRARIES = False

_MERGE_MARKER = re.compile(r"^(<<<<<<<|>>>>>>>) ")
# nginx puts in an address of the visitor's own (module ngx_http_ssi). Where it got none, the link is empty.
_SSI_NEW_LINK = '<!--# include virtual="/account-link" set="account_link" wait="yes" -->'
_SSI_LINK = "<!--# echo var='account_link' default='' -->"


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


def contact(text):
    """
    Return the link to who runs the relay (setting ``contact``) and the words that stand for it.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_website.contact operator@example.org
    """
    return (text, "a chat") if text.startswith("https://") else (f"mailto:{text}", text)


def qr_code(text):
    """
    Return the QR code of a text as SVG, with room for a mark in its middle (ISO/IEC 18004, error correction H).

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_website.qr_code DCACCOUNT:https://chat.example.org/new
    """
    image = io.BytesIO()
    segno.make(text, error="h", micro=False).save(image, kind="svg", scale=8, border=4, dark="#000", light="#fff")
    return image.getvalue()


def _files(folder):
    """Return a dict of relative path to path, without what editors and version control hide."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") and part != ".well-known" for part in relative.parts)
        if path.is_file() and not hidden and not path.name.endswith(("~", ".swp")):
            found[str(relative)] = path
    return found


def _text(name, path):
    """Return the text of a source. Raises CommandExecutionError where it is not fit to be published."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CommandExecutionError(f"{name} is not UTF-8: save it as that") from error
    for number, line in enumerate(text.splitlines(), 1):
        if _MERGE_MARKER.match(line):
            raise CommandExecutionError(
                f"{name}, line {number}: a merge was not finished here, {line[:7]} is left of it"
            )
    return text


def _render(template, values, folders):
    """Fill in a template. Raises CommandExecutionError, which names file and line."""
    loader = jinja2.FileSystemLoader(folders)
    jinja = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True)
    try:
        return jinja.get_template(template).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise CommandExecutionError(f"{error.name}, line {error.lineno}: {error.message}") from error
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        # Jinja writes its templates into the traceback.
        frames = traceback.extract_tb(error.__traceback__)
        lines = [
            f"{Path(frame.filename).name}, line {frame.lineno}"
            for frame in frames
            if any(Path(frame.filename).is_relative_to(folder) for folder in folders)
        ]
        what = f"there is no {error.name}" if isinstance(error, jinja2.TemplateNotFound) else error
        raise CommandExecutionError(f"{lines[-1] if lines else template}: {what}") from error


def build(settings, pages, own=None):
    """
    Build the web pages in memory.

    settings
        Those of ``map.jinja``.
    pages
        Directory of the formula's sources: ``*.md``, their ``layout.html``, and files that stay as they are.
    own
        Directory of the operator. With ``src/index.md`` in it, the files of ``src`` take the place of
        the formula's, file by file; without, it is the web site as it is, and ``pages`` does not count.

    Returns a dict of relative path to content (bytes). Raises CommandExecutionError, which names file and line.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_website.build '{mail_domain: _chat.example.org, tls_mode: self}' /srv/pages
    """
    folders = [Path(pages)]
    if own:
        if not (Path(own) / "src/index.md").is_file():
            for name, path in _files(Path(own)).items():
                if name.endswith((".html", ".css")):
                    _text(name, path)
            return {name: path.read_bytes() for name, path in _files(Path(own)).items()}
        folders = [Path(own) / "src", *folders]
    sources = {name: path for folder in reversed(folders) for name, path in _files(folder).items()}

    link = account_link(settings)
    built = {"qr.svg": qr_code(link)} if link else {}
    for name, path in sources.items():
        if name.endswith((".md", ".html", ".css")):
            _text(name, path)
        if name == "layout.html":
            continue
        if not name.endswith(".md"):
            built[name] = path.read_bytes()
            continue
        page = name.removesuffix(".md")
        values = {
            "settings": settings,
            "page": page,
            **dict(zip(("contact_link", "contact_name"), contact(settings.get("contact", "")), strict=True)),
            "account_link": link or "ACCOUNT-LINK",
            "account_qr": "/qr.svg" if link else "/account-qr?ACCOUNT-LINK",
        }
        converter = markdown.Markdown(extensions=["extra"])
        content = Markup(converter.convert(_render(name, values, folders)))  # noqa: S704 - the operator's own pages
        html = _render("layout.html", values | {"content": content}, folders)
        if "ACCOUNT-LINK" in html:
            # Not before: Markdown does not let comments stand in attributes.
            html = _SSI_NEW_LINK + html.replace("ACCOUNT-LINK", _SSI_LINK)
        built[f"{page}.html"] = html.encode()
    return built


def published(name):
    """
    Return the web pages at ``name`` as a dict of relative path to content (bytes), empty where there are none.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_website.published /var/www/chatmail
    """
    return {relative: path.read_bytes() for relative, path in _files(Path(name)).items()}


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
