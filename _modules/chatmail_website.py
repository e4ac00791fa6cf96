"""
The relay's web pages: Markdown and one layout, filled in from the settings, built as a whole or not at all.

``build`` knows nothing of the host, so that ``make web`` shows the same pages on the controller.
"""

import io
import re
import shutil
import tempfile
from pathlib import Path

import jinja2
from markupsafe import Markup
from salt.exceptions import CommandExecutionError

try:
    import markdown
    import segno

    HAS_LIBRARIES = True
except ImportError:
    HAS_LIBRARIES = False

_MERGE_MARKER = re.compile(r"^(<<<<<<< |>>>>>>> )", re.MULTILINE)


def __virtual__():
    if not HAS_LIBRARIES:
        return False, "Debian's python3-markdown and python3-segno are not installed"
    return "chatmail_website"


def account_link(settings):
    """
    Return the link with which an app makes itself an address on the relay of ``settings`` (those of ``map.jinja``).

    With a certificate of an authority the app asks the relay for an address. It does not connect to a web server whose
    certificate it cannot verify: there it is told the domain and makes the address up itself.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_website.account_link '{mail_domain: _chat.example.org, tls_mode: self}'
    """
    domain = settings["mail_domain"]
    return f"DCACCOUNT:{domain}" if settings["tls_mode"] == "self" else f"DCACCOUNT:https://{domain}/new"


def _qr_code(text):
    """Return the QR code of a text (ISO/IEC 18004, error correction M, quiet zone of four modules) as SVG."""
    image = io.BytesIO()
    segno.make(text, error="m", micro=False).save(image, kind="svg", scale=8, border=4, dark="#000", light="#fff")
    return image.getvalue()


def _files(folder):
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


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
            return {name: path.read_bytes() for name, path in _files(Path(own)).items()}
        folders = [Path(own) / "src", *folders]
    sources = {name: path for folder in reversed(folders) for name, path in _files(folder).items()}
    for name, path in sources.items():
        if name.endswith((".md", ".html", ".css")) and _MERGE_MARKER.search(path.read_text(errors="replace")):
            raise CommandExecutionError(f"{name} has unresolved merge markers (<<<<<<<)")

    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True
    )
    link = account_link(settings)
    built = {"qr.svg": _qr_code(link)}
    for name, path in sources.items():
        if name == "layout.html":
            continue
        if not name.endswith(".md"):
            built[name] = path.read_bytes()
            continue
        page = name.removesuffix(".md")
        values = {"settings": settings, "page": page, "account_link": link}
        try:
            text = jinja.get_template(name).render(values)
            converter = markdown.Markdown(extensions=["extra"])
            content = Markup(converter.convert(text))  # noqa: S704 - the operator's own pages
            html = jinja.get_template("layout.html").render(values | {"content": content})
        except jinja2.TemplateSyntaxError as error:
            raise CommandExecutionError(f"{error.name}, line {error.lineno}: {error.message}") from error
        except (jinja2.TemplateError, TypeError, UnicodeDecodeError) as error:
            raise CommandExecutionError(f"{name}: {error}") from error
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
    link = Path(name)
    if link.exists() and not link.is_symlink():
        raise CommandExecutionError(f"{name} is not the formula's link: move it away and apply again")
    # No package of ours makes /var/www.
    link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f".{link.name}-", dir=link.parent))
    directory.chmod(0o755)
    for relative, content in files.items():
        path = directory / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
    new = directory.with_name(directory.name + ".link")
    new.symlink_to(directory.name)
    new.replace(link)
    # The old ones, and what an interrupted apply left.
    for other in link.parent.glob(f".{link.name}-*"):
        if other != directory:
            shutil.rmtree(other)
