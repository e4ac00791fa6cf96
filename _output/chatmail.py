"""
What operators see of functions that return more than they read: ``--out=json`` shows all of it.

A function's ``report`` or ``result`` stands for the whole; records are one line each, and below a certificate stands
who serves it.
"""

import shutil
import textwrap

import salt.loader
import salt.utils.color

# By the first character of a line.
_COLORS = {"✓": "GREEN", "✗": "RED", "!": "YELLOW"}


def __virtual__():
    return "chatmail"


def _record(record, width):
    """One record (a mapping with ``name`` and ``type``) on a line; ``width`` is that of the names."""
    values = record["values"] if "values" in record else [record["value"]]
    kind = f"{'required' if record['required'] else 'recommended':<11}  " if "required" in record else ""
    return f"{kind}{record['type']:<5}  {record['name']:<{width}}  {', '.join(values) or 'not known yet'}"


def _certificates(shown, width):
    """What ``chatmail_cert.show`` returns: each certificate, below it who serves it."""

    def below(places):
        return textwrap.wrap(", ".join(places), width, initial_indent="  ", subsequent_indent="  ")

    lines = []
    for one in shown["certificates"]:
        lines.append(f"{', '.join(one['names'])}; issued by {one['issuer']}; {one['days_left']} days left")
        lines += below(f"{place['port']} {place['daemon']}" for place in one["places"])
    if shown["not_served"]:
        lines.append("not served")
        lines += below(f"{place['port']} {place['daemon']}: {place['problem']}" for place in shown["not_served"])
    return "\n".join(lines)


def _text(result, width):
    """``result`` as text, or None where it has none of the known forms."""
    records = result if isinstance(result, list) else [result]
    if records and all(isinstance(one, dict) and {"name", "type"} <= one.keys() for one in records):
        name_width = max(len(one["name"]) for one in records)
        return "\n".join(_record(one, name_width) for one in records)
    if isinstance(result, dict):
        if "report" in result or "result" in result:
            return result.get("report") or result["result"]
        if "certificates" in result:
            return _certificates(result, width)
    return result if isinstance(result, str) else None


def output(data, **kwargs):
    """
    Return the text for ``data``, results by target.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_dns.check --out=json
    """
    colors = salt.utils.color.get_colors(__opts__.get("color"), __opts__.get("color_theme"))
    width = shutil.get_terminal_size().columns
    texts = []
    for target, result in data.items():
        text = _text(result, width)
        if text is None:
            texts.append(salt.loader.outputters(__opts__)["nested"]({target: result}))
            continue
        for line in text.rstrip("\n").split("\n"):
            color = colors[_COLORS[line[0]]] if line[:1] in _COLORS else ""
            texts.append(f"{color}{line[:1]}{colors['ENDC']}{line[1:]}" if color else line)
    return "\n".join(texts)
