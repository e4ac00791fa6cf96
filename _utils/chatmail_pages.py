"""
The relay's web pages from their sources: Markdown and one layout, filled in from the settings.

A page that asks for the words of a language (``text``, ``language``) is built in each: ``de/info.html`` and its like,
of which nginx chooses one, and ``info.html`` in English for whoever reads none of them. Nothing here knows of the host,
so that ``make web`` shows the same pages on the controller.
"""

import io
import re
import traceback
from pathlib import Path

import jinja2
import jinja2.meta
import jinja2.nodes
import markdown
import segno
from markupsafe import Markup

import chatmail_words
from chatmail_texts import DEFAULT_LANGUAGE, SourceError, filled_in, load

_TEXTS = re.compile(r"texts/[^/]+\.yaml")
_MERGE_MARKER = re.compile(r"^(<<<<<<<|>>>>>>>) ")
# nginx puts in an address of the visitor's own (module ngx_http_ssi). Where it got none, the link is empty.
_SSI_NEW_LINK = '<!--# include virtual="/account-link" set="account_link" wait="yes" -->'
_SSI_LINK = "<!--# echo var='account_link' default='' -->"


def qr_code(text):
    """Return the QR code of a text as SVG, with room for a mark in its middle (ISO/IEC 18004, error correction H)."""
    image = io.BytesIO()
    segno.make(text, error="h", micro=False).save(image, kind="svg", scale=8, border=4, dark="#000", light="#fff")
    return image.getvalue()


def files(folder):
    """Return a dict of relative path to path, without what editors and version control hide."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") and part != ".well-known" for part in relative.parts)
        if path.is_file() and not hidden and not path.name.endswith(("~", ".swp")):
            found[str(relative)] = path
    return found


def _text(name, path):
    """Return the text of a source. Raises SourceError where it is not fit to be published."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"{name} is not UTF-8: save it as that") from error
    for number, line in enumerate(text.splitlines(), 1):
        if _MERGE_MARKER.match(line):
            raise SourceError(f"{name}, line {number}: a merge was not finished here, {line[:7]} is left of it")
    return text


def _environment(folders):
    """Return Jinja for the templates in ``folders``, of which the first that has a template counts."""
    loader = jinja2.FileSystemLoader(folders)
    return jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True)


def _languages(jinja, template, known):
    """
    Return the languages that a template is for: the one that it sets (``{% set language = "de" %}``), all where it
    asks for one, none where it does not care.
    """
    try:
        tree = jinja.parse(jinja.loader.get_source(jinja, template)[0])
        asks = jinja2.meta.find_undeclared_variables(tree) & {"text", "language"}
    except jinja2.TemplateError:
        # Rendering it says what is wrong, and where.
        return []
    for node in tree.find_all(jinja2.nodes.Assign):
        if getattr(node.target, "name", "") == "language" and isinstance(node.node, jinja2.nodes.Const):
            return [node.node.value]
    return list(known) if asks else []


def _render(jinja, template, values):
    """Fill in a template. Raises SourceError, which names file and line."""
    try:
        return jinja.get_template(template).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise SourceError(f"{error.name}, line {error.lineno}: {error.message}") from error
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        # Jinja writes its templates into the traceback.
        frames = traceback.extract_tb(error.__traceback__)
        lines = [
            f"{Path(frame.filename).name}, line {frame.lineno}"
            for frame in frames
            if any(Path(frame.filename).is_relative_to(folder) for folder in jinja.loader.searchpath)
        ]
        what = f"there is no {error.name}" if isinstance(error, jinja2.TemplateNotFound) else error
        raise SourceError(f"{lines[-1] if lines else template}: {what}") from error


def _words(folders, settings):
    """Return what templates know of each language."""
    contact = settings.get("contact", "")
    chat = contact.startswith("https://")
    words = {}
    for language, texts in load([folder / "texts" for folder in reversed(folders)]).items():
        text = filled_in(texts, settings, language)
        words[language] = {
            "language": language,
            "text": text,
            "contact_link": contact if chat else f"mailto:{contact}",
            "contact_name": text["contact_chat"] if chat else contact,
        }
    return words


def _page(jinja, name, values):
    """Return the HTML of a Markdown source."""
    content = markdown.Markdown(extensions=["extra"]).convert(_render(jinja, name, values))
    html = _render(jinja, "layout.html", values | {"content": Markup(content)})  # noqa: S704 - the operator's own pages
    if "ACCOUNT-LINK" in html:
        # Not before: Markdown does not let comments stand in attributes.
        html = _SSI_NEW_LINK + html.replace("ACCOUNT-LINK", _SSI_LINK)
    return html.encode()


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

    Returns a dict of relative path to content (bytes). Raises SourceError, which names file and line.
    """
    folders = [Path(pages)]
    if own:
        if not (Path(own) / "src/index.md").is_file():
            for name, path in files(Path(own)).items():
                if name.endswith((".html", ".css")):
                    _text(name, path)
            return {name: path.read_bytes() for name, path in files(Path(own)).items()}
        folders = [Path(own) / "src", *folders]
    sources = {name: path for folder in reversed(folders) for name, path in files(folder).items()}
    for name, path in sources.items():
        if name.endswith((".md", ".html", ".css")) or _TEXTS.fullmatch(name):
            _text(name, path)
    words = _words(folders, settings)
    jinja = _environment(folders)
    # A layout of the operator's that asks for no language is for one.
    layout_is_translated = len(_languages(jinja, "layout.html", words)) > 1

    link = chatmail_words.account_link(settings)
    built = {"qr.svg": qr_code(link)} if link else {}
    for name, path in sources.items():
        if name == "layout.html" or _TEXTS.fullmatch(name):
            continue
        if not name.endswith(".md"):
            built[name] = path.read_bytes()
            continue
        page = name.removesuffix(".md")
        languages = _languages(jinja, name, words)
        translated = layout_is_translated and len(languages) > 1
        language = languages[0] if len(languages) == 1 else DEFAULT_LANGUAGE
        values = {
            "settings": settings,
            "page": page,
            "languages": {tag: words[tag]["text"]["name"] for tag in languages} if translated else {},
            "account_link": link or "ACCOUNT-LINK",
            "account_qr": "/qr.svg" if link else "/account-qr?ACCOUNT-LINK",
        }
        for tag in values["languages"]:
            built[f"{tag}/{page}.html"] = _page(jinja, name, values | words[tag])
        english = words.get(DEFAULT_LANGUAGE, {})
        built[f"{page}.html"] = _page(jinja, name, values | words.get(language, english) | {"language": language})
    return built
