"""A list of mappings with the same keys, for people: a table."""

import time

import salt.output.nested

DAY_S = 86400
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


def lines(rows):
    """
    Return the table of ``rows`` (list of mappings with the same keys) as a list of lines, numbers to the right.
    """
    if not rows:
        return ["none"]
    columns = list(rows[0])
    texts = [[column.replace("_", " ") for column in columns]]
    texts += [[cell(column, row[column]) for column in columns] for row in rows]
    widths = [max(len(line[number]) for line in texts) for number in range(len(columns))]
    right = [isinstance(rows[0][column], int) and not isinstance(rows[0][column], bool) for column in columns]
    return [
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in texts
    ]


def output(data, **_):
    """Print the tables of each relay; what is none, as Salt does."""
    texts = []
    for name, rows in data.items():
        # A list of a part says how many there are in all.
        listed = rows.get("listed", rows) if isinstance(rows, dict) else rows
        if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
            salt.output.nested.__opts__ = __opts__
            texts.append(salt.output.nested.output({name: rows}))
            continue
        more = []
        if isinstance(rows, dict) and rows["count"] > len(listed):
            more = [f"{len(listed)} of {rows['count']}; limit=... shows more"]
        texts.append("\n".join([f"{name}:", *(f"  {line}" for line in lines(listed) + more)]))
    return "\n".join(texts)
