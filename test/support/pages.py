"""What operators read and copy: the commands in the pages of docs/."""

import re


def commands(page: str) -> list[str]:
    """The commands of a page's blocks: all lines of ``sh``, and those with root's prompt of ``console``."""
    found = []
    for indent, language, block in re.findall(r"(?ms)^( *)```(sh|console)\n(.*?)^ *```$", page):
        lines = [line.removeprefix(indent) for line in block.replace("\\\n", " ").splitlines()]
        found += lines if language == "sh" else [line[2:] for line in lines if line.startswith("# ")]
    return found
