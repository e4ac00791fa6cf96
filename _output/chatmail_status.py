"""What ``chatmail_relay.status`` returns, for people: a line for each check, below it what is wrong and what to do."""

import shutil
import textwrap

import salt.output.nested
import salt.utils.color

WORDS = {"ok": "ok", "note": "note", "warning": "WARNING", "error": "FAULT", "skipped": "-"}
COLORS = {"ok": "GREEN", "note": "CYAN", "warning": "YELLOW", "error": "LIGHT_RED", "skipped": "DARK_GRAY"}
# Columns of the words and of the names of checks; a wider terminal than the last one makes no better reading.
WORD, NAME, WIDEST = 9, 12, 110


def _counted(findings):
    counts = [
        (sum(one["level"] == level for one in findings), word)
        for level, word in (
            ("error", "fault"),
            ("warning", "warning"),
            ("note", "note"),
        )
    ]
    return ", ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in counts if count)


def lines(status, width, paint):
    """
    Return the text of a status as a list of lines.

    status
        What ``chatmail_relay.status`` returns.
    width
        Columns of the terminal.
    paint
        Function that colours a text by a level.
    """
    indent = " " * (WORD + NAME + 2)
    level = status["level"]
    head = _counted(status["findings"]) or "all is well"
    title = f"{status['relay'] or 'no relay'}: {head}"
    said = [title.ljust(width - 8) + f"{status['seconds']:.1f} s".rjust(8), ""]
    said[0] = paint(said[0][: len(title)], level) + said[0][len(title) :]
    for check in status["checks"]:
        found = [one for one in status["findings"] if one["check"] == check["check"]]
        entries = [(check["level"], check["says"])] if not found else [(one["level"], one["what"]) for one in found]
        steps = [one["do"] for one in found] or [""]
        for number, ((shown, text), step) in enumerate(zip(entries, steps, strict=True)):
            name = check["check"] if number == 0 else ""
            wrapped = textwrap.wrap(text, width - len(indent), break_on_hyphens=False) or [""]
            said.append(f"  {paint(WORDS[shown].ljust(WORD), shown)}{name.ljust(NAME)}{wrapped[0]}")
            said += [f"{indent}{line}" for line in wrapped[1:]]
            if step:
                first, *more = textwrap.wrap(step, width - len(indent), break_on_hyphens=False, break_long_words=False)
                said.append(f"  {'':{WORD}}{paint('do'.rjust(NAME - 2), shown)}  {first}")
                said += [f"{indent}{line}" for line in more]
    if status["firewall"]:
        ports = "; ".join(f"{name.upper()} {' '.join(numbers)}" for name, numbers in status["firewall"].items())
        said += ["", f"  {'open in the firewall':{WORD + NAME}}{ports}"]
    return said


def output(data, **_):
    """Print the status of each relay; what is none, as Salt does."""
    colors = salt.utils.color.get_colors(__opts__.get("color"), __opts__.get("color_theme"))
    width = min(shutil.get_terminal_size().columns, WIDEST)

    def paint(text, level):
        return f"{colors[COLORS[level]]}{text}{colors['ENDC']}"

    texts = []
    for name, status in data.items():
        if isinstance(status, dict) and "findings" in status:
            texts.append("\n".join(lines(status, width, paint)))
        else:
            salt.output.nested.__opts__ = __opts__
            texts.append(salt.output.nested.output({name: status}))
    return "\n\n".join(texts)
