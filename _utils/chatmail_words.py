"""
Numbers and texts as people read them.

No function here reads or writes anything; who has a size, an age or a long text asks here for its words.
"""

DAY_S = 86400


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
