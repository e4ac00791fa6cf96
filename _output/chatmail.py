"""
What operators see of functions that return more than they read: ``--out=json`` shows all of it.

A result is told by what it has: a status by its findings, a check by its report, records and certificates by a line
each, lists of mappings as a table. What is none of these is shown as Salt does.
"""

import shutil
import textwrap
import time

import salt.loader
import salt.output
import salt.utils.color

# Of a wider terminal than this, a status makes no better reading.
WIDEST = 110
NARROWEST_COLUMN = 20
DAY_S = 86400
# What a number is, by the name of its column.
SIZES = {"size"}
TIMES = {"since", "last_login", "expires"}
# A status: words and colours of levels, columns of the words and of the names of checks.
WORDS = {"ok": "ok", "note": "note", "warning": "WARNING", "error": "FAULT", "skipped": "-"}
COLORS = {"ok": "GREEN", "note": "CYAN", "warning": "YELLOW", "error": "LIGHT_RED", "skipped": "DARK_GRAY"}
WORD, NAME = 9, 12
# A report: colours by the first character of a line.
MARKS = {"✓": "GREEN", "✗": "RED", "!": "YELLOW"}


def __virtual__():
    return "chatmail"


def output(data, **_):
    """
    Return the text for ``data``, results by target.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.check --out=json
    """
    colors = salt.utils.color.get_colors(__opts__.get("color"), __opts__.get("color_theme"))
    width = shutil.get_terminal_size().columns

    def paint(text, color):
        return f"{colors[color]}{text}{colors['ENDC']}"

    texts = []
    for target, result in harmless(data).items():
        lines = _lines(target, result, width, paint)
        if lines is None:
            texts.append(salt.loader.outputters(__opts__)["nested"]({target: result}))
        else:
            texts.append("\n".join(lines))
    return "\n".join(texts)


def harmless(value):
    """Return a result without the character by which text commands a terminal, as Salt's own outputters do."""
    if isinstance(value, dict):
        return {harmless(key): harmless(one) for key, one in value.items()}
    if isinstance(value, list):
        return [harmless(one) for one in value]
    return salt.output.strip_esc_sequence(value)


def _lines(target, result, width, paint):
    """The lines of text for a result, or None where it has none of the known forms."""
    if isinstance(result, str):
        return marked(result, paint)
    if isinstance(result, list):
        if result and all(isinstance(one, dict) and {"name", "type"} <= one.keys() for one in result):
            return records(result)
        return _titled(target, table(result, width - 2)) if all(isinstance(one, dict) for one in result) else None
    # A call that failed in salt-ssh itself has a retcode.
    if not isinstance(result, dict) or "retcode" in result:
        return None
    if "findings" in result:
        return status(result, min(width, WIDEST), paint)
    if "certificates" in result:
        return certificates(result, width)
    if "report" in result or "result" in result:
        return marked(result.get("report") or result["result"], paint)
    if {"name", "type", "value"} <= result.keys():
        return records([result])
    if "listed" in result:
        return _titled(target, _part(result, width - 2))
    return None if any(isinstance(one, (dict, list)) for one in result.values()) else _titled(target, values(result))


def _titled(target, lines):
    return [f"{target}:", *(f"  {line}" for line in lines)]


def marked(text, paint):
    """Return the lines of ``text``, coloured by the mark that they begin with."""
    return [
        paint(line[0], MARKS[line[0]]) + line[1:] if line[:1] in MARKS else line
        for line in text.rstrip("\n").split("\n")
    ]


def records(found):
    """Return a line for each DNS record (mapping with ``name``, ``type``, and ``values`` or one ``value``)."""
    width = max(len(one["name"]) for one in found)
    lines = []
    for one in found:
        told = one["values"] if "values" in one else [one["value"]]
        kind = f"{'required' if one['required'] else 'recommended':<11}  " if "required" in one else ""
        lines.append(f"{kind}{one['type']:<5}  {one['name']:<{width}}  {', '.join(told) or 'not known yet'}")
    return lines


def certificates(shown, width):
    """Return the lines for what ``chatmail_cert.show`` returns: each certificate, below it who serves it."""

    def below(places):
        return textwrap.wrap(", ".join(places), width, initial_indent="  ", subsequent_indent="  ")

    lines = []
    for one in shown["certificates"]:
        lines.append(f"{', '.join(one['names'])}; issued by {one['issuer']}; {one['days_left']} days left")
        lines += below(f"{place['port']} {place['daemon']}" for place in one["places"])
    if shown["not_served"]:
        lines.append("not served")
        lines += below(f"{place['port']} {place['daemon']}: {place['problem']}" for place in shown["not_served"])
    return lines


# --- Tables ---


def _words(function, *arguments):
    # Salt gives outputters no way to import a util.
    return salt.loader.utils(__opts__, whitelist=["chatmail_words"])[f"chatmail_words.{function}"](*arguments)


def cell(column, value):
    """
    Return the text of one value: bytes and times as people read them, by the name of their ``column``.
    """
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column in SIZES:
        return _words("size_text", value)
    if column in TIMES:
        # A time at midnight is a day.
        return time.strftime("%Y-%m-%d" if value % DAY_S == 0 else "%Y-%m-%d %H:%M UTC", time.gmtime(value))
    return str(value)


def _heading(column):
    return column.replace("_", " ")


def _part(result, width):
    """A part of a list says how many there are in all."""
    listed = result["listed"]
    more = [f"{len(listed)} of {result['count']}; limit=... shows more"] if result["count"] > len(listed) else []
    return table(listed, width) + more


def table(rows, width):
    """
    Return ``rows`` (mappings with the same keys) as a list of lines, numbers to the right, the last column wrapped at
    ``width`` (columns of the terminal).
    """
    if not rows:
        return ["none"]
    columns = list(rows[0])
    texts = [[_heading(column) for column in columns]]
    texts += [[cell(column, row[column]) for column in columns] for row in rows]
    widths = [max(len(line[number]) for line in texts) for number in range(len(columns) - 1)]
    right = [isinstance(rows[0][column], int) and not isinstance(rows[0][column], bool) for column in columns]
    indent = sum(widths) + 2 * len(widths)
    said = []
    for line in texts:
        aligned = zip(line, widths, right, strict=False)
        first = "  ".join(text.rjust(size) if to_right else text.ljust(size) for text, size, to_right in aligned)
        last = textwrap.wrap(line[-1], max(NARROWEST_COLUMN, width - indent), break_on_hyphens=False)
        said.append(f"{first}  {last[0]}")
        said += [" " * indent + more for more in last[1:]]
    return said


def values(one):
    """Return the values of the mapping ``one`` as a list of lines, their names before them."""
    width = max(map(len, one))
    return [f"{_heading(key).ljust(width)}  {cell(key, value)}" for key, value in one.items()]


# --- Status ---


def status(found, width, paint):
    """
    Return the lines of a status: one for each check, below it what is wrong and what to do.

    found
        What ``chatmail_relay.status`` returns.
    width
        Columns of the terminal.
    paint
        Function that gives a text a color, by Salt's name of it.
    """
    indent = " " * (WORD + NAME + 2)
    head = _words("counted", found["findings"]) or "all is well"
    title = f"{found['relay'] or 'no relay'}: {head}"
    room = title.ljust(width - 8)[len(title) :] + f"{found['seconds']:.1f} s".rjust(8)
    said = [paint(title, COLORS[found["level"]]) + room, ""]
    for check in found["checks"]:
        own = [one for one in found["findings"] if one["check"] == check["check"]]
        entries = [(one["level"], one["what"], one["do"]) for one in own] or [(check["level"], check["says"], "")]
        for number, (level, text, step) in enumerate(entries):
            name = check["check"] if number == 0 else ""
            wrapped = textwrap.wrap(text, width - len(indent), break_on_hyphens=False) or [""]
            said.append(f"  {paint(WORDS[level].ljust(WORD), COLORS[level])}{name.ljust(NAME)}{wrapped[0]}")
            said += [f"{indent}{line}" for line in wrapped[1:]]
            if step:
                first, *more = textwrap.wrap(step, width - len(indent), break_on_hyphens=False, break_long_words=False)
                said.append(f"  {'':{WORD}}{paint('do'.rjust(NAME - 2), COLORS[level])}  {first}")
                said += [f"{indent}{line}" for line in more]
    if found["firewall"]:
        ports = "; ".join(f"{name.upper()} {' '.join(numbers)}" for name, numbers in found["firewall"].items())
        said += ["", f"  {'open in the firewall':{WORD + NAME}}{ports}"]
    return said
