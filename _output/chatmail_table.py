"""Mappings for people: many with the same keys are a table, one alone is a list of its values."""

import shutil
import textwrap
import time

import salt.output.nested

DAY_S = 86400
NARROWEST = 20
# What a number is, by the name of its column.
SIZES = {"size"}
TIMES = {"since", "last_login", "expires"}


def cell(column, value):
    """
    Return the text of one value: bytes and times as people read them, by the name of their ``column``.
    """
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column in SIZES:
        for unit, factor in (("G", 1024**3), ("M", 1024**2), ("K", 1024)):
            if value >= factor:
                return f"{value / factor:.1f} {unit}"
        return f"{value} B"
    if column in TIMES:
        # A time at midnight is a day.
        return time.strftime("%Y-%m-%d" if value % DAY_S == 0 else "%Y-%m-%d %H:%M UTC", time.gmtime(value))
    return str(value)


def _heading(column):
    return column.replace("_", " ")


def table(rows, width):
    """
    Return ``rows`` (mappings with the same keys) as a list of lines, numbers to the right, the last column wrapped at
    ``width`` (columns of the terminal).
    """
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
        last = textwrap.wrap(line[-1], max(NARROWEST, width - indent), break_on_hyphens=False)
        said.append(f"{first}  {last[0]}")
        said += [" " * indent + more for more in last[1:]]
    return said


def values(one):
    """Return the values of the mapping ``one`` as a list of lines, their names before them."""
    width = max(map(len, one))
    return [f"{_heading(key).ljust(width)}  {cell(key, value)}" for key, value in one.items()]


def _lines(result, width):
    """The text of a result as a list of lines, or None where it is neither."""
    if isinstance(result, dict) and "listed" in result:
        listed = result["listed"]
        # A part of a list says how many there are in all.
        more = [f"{len(listed)} of {result['count']}; limit=... shows more"] if result["count"] > len(listed) else []
        return (table(listed, width) if listed else ["none"]) + more
    if isinstance(result, list) and all(isinstance(row, dict) for row in result):
        return table(result, width) if result else ["none"]
    # A failed call has no plain values alone.
    if isinstance(result, dict) and "retcode" not in result:
        return values(result)
    return None


def output(data, **_):
    """Print the results of each relay; what is none, as Salt does."""
    width = shutil.get_terminal_size().columns - 2
    texts = []
    for name, result in data.items():
        said = _lines(result, width)
        if said is None:
            salt.output.nested.__opts__ = __opts__
            texts.append(salt.output.nested.output({name: result}))
        else:
            texts.append("\n".join([f"{name}:", *(f"  {line}" for line in said)]))
    return "\n".join(texts)
