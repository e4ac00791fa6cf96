"""
Numbers and texts as people read them.

No function here reads or writes anything; who has a size, an age or a long text asks here for its words.
"""

import textwrap

DAY_S = 86400
# What a terminal has at least, less what state comments are indented by.
WIDTH = 80 - 6
_INDENT = " " * len("✓ CNAME ")
_BAD_RECORD = ("missing", "wrong", "unknown")


def size_text(number):
    """Return a number of bytes for people, such as ``1.5 G`` (multiples of 1024)."""
    for unit, factor in (("T", 1024**4), ("G", 1024**3), ("M", 1024**2), ("K", 1024)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} B"


def age_text(seconds):
    """Return a time span for people, such as ``3 h``."""
    for unit, factor in (("days", DAY_S), ("h", 3600), ("min", 60)):
        if seconds >= 2 * factor:
            return f"{int(seconds // factor)} {unit}"
    return f"{int(seconds)} s"


def one_line(text, limit=200):
    """Return ``text`` on one line of at most ``limit`` characters, cut with ``...``."""
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def counted(findings):
    """Return how many faults, warnings and notes the ``findings`` of a status are, for people; empty for none."""
    counts = [
        (sum(one["level"] == level for one in findings), word)
        for level, word in (("error", "fault"), ("warning", "warning"), ("note", "note"))
    ]
    return ", ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in counts if count)


def account_link(settings):
    """
    Return the link with which an app makes itself an address on the relay of ``settings`` (those of ``map.jinja``).

    None where the certificate is self-signed: apps do not ask a web server that they cannot verify, so each visitor of
    the page gets a ``dclogin:`` link with an address in it, from the relay's service for new addresses.
    """
    return None if settings["tls_mode"] == "self" else f"DCACCOUNT:https://{settings['mail_domain']}/new"


def _cut(text):
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _told(line, bad_mark, name_width):
    """The lines of text about one record: one where all is well or nothing is there."""
    name, rdtype = line["record"].split()
    head = f"{'✓' if line['status'] not in _BAD_RECORD else bad_mark} {rdtype:<5} {name:<{name_width}}  "
    remark = line.get("remark", "")
    if line["status"] not in _BAD_RECORD:
        return [_cut(head + line["found"]), *([_wrapped(_INDENT + remark)] if remark else [])]
    if line["status"] == "missing" and not remark and "enter" in line:
        return [_cut(f"{head}missing: {line['wanted']}")]
    texts = [_wrapped(f"{head}{line['status']}{': ' if remark else ''}{remark}")]
    # What is not known yet is said by what to do.
    if line["status"] == "wrong" or remark:
        told = ("wanted", "found") if line["status"] != "unknown" else ()
        texts += [_cut(f"{_INDENT}{what:<7} {line[what]}") for what in told]
    return [*texts, _wrapped(_INDENT + line["do"])]


def _wrapped(text):
    return textwrap.fill(text, WIDTH, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)


def records_text(required, recommended, publishable):
    """
    Return the text about DNS records for people.

    Data that is too long for a line of a terminal is cut, and what is to be entered follows as a whole.

    required, recommended
        Lines as ``chatmail_survey`` makes them.
    publishable
        Whether the records can be published from here, so that there is nothing to enter.
    """
    lines = required + recommended
    if not lines:
        return ""
    width = max(len(line["record"].split()[0]) for line in lines)
    parts = []
    for title, mark, group in (("Required", "✗", required), ("Recommended", "!", recommended)):
        if group:
            parts.append("\n".join([title, *(text for line in group for text in _told(line, mark, width))]))
    entries = [line["enter"] for line in lines if "enter" in line]
    if entries and publishable:
        parts.append("An apply publishes what is missing or wrong, and so does chatmail_dns.publish.")
    elif entries:
        instead = ", in place of what is wrong" if any(line["status"] == "wrong" for line in lines) else ""
        parts += [f"Enter at the provider of the domain{instead}:", "\n".join(entries)]
    return "\n\n".join(parts)
