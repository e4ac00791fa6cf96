"""
What is wrong with the files of a pillar before Salt reads them: Salt tells of a tab by a stack trace, and of a top file
that is missing not at all.
"""

import fnmatch
import re
from pathlib import Path

import yaml

# What no name in a roster has, but Salt's compound matches do, such as "relay or other" and "L@relay,other".
COMPOUND = re.compile(r"[@\s]")


def unreadable(path):
    """
    Return why the YAML of a file cannot be read, one line with file and line number, or nothing. What has Jinja in it
    is for Salt to read.
    """
    try:
        text = Path(path).read_text()
        if "{%" not in text and "{{" not in text:
            yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}."
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        if mark is None:
            return f"{path}: {' '.join(str(error).split())}."
        line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
        tab = "\t" in line[: len(line) - len(line.lstrip())]
        why = "it is indented by a tab; YAML takes spaces" if tab else error.problem
        return f"{path}, line {mark.line + 1}: {why}."
    return ""


def problems(roots, target):
    """
    Return what is wrong (list of text, a line each) with the pillar of a target.

    roots
        The directories of Salt's ``pillar_roots``, of the environment ``base``.
    target
        The name of a host in the roster.
    """
    tops = [top for root in roots if (top := Path(root, "top.sls")).is_file()]
    if not tops:
        return [
            f"{Path(*roots[:1], 'top.sls')} does not exist; it says whose settings are in which file. Its text, where "
            f"{target}.sls has them: {{base: {{'{target}': [{target}]}}}}"
        ]
    if found := list(filter(None, map(unreadable, tops))):
        return found
    found = []
    for top in tops:
        text = top.read_text()
        if "{%" in text or "{{" in text:
            return []
        content = yaml.safe_load(text)
        base = content.get("base") if isinstance(content, dict) else None
        if not isinstance(base, dict):
            return [f"{top}: `base:` is missing, and below it the names of the roster; see docs/applying.md."]
        for pattern, names in base.items():
            if not isinstance(names, list | None):
                return [f"{top}: `{pattern}:` has no list; each of its files is a line below it that begins with `- `."]
        other_matches = any(isinstance(one, dict) for names in base.values() for one in names or [])
        if other_matches or any(COMPOUND.search(str(pattern)) for pattern in base):
            # Another way to match than by name.
            return []
        matching = [pattern for pattern in base if fnmatch.fnmatchcase(target, str(pattern))]
        if not matching:
            known = ", ".join(map(str, base)) or "nobody"
            found.append(f"{top} has no settings for {target}; it names {known}.")
        found += [
            problem for pattern in matching for name in base[pattern] or [] if (problem := _file(name, roots, top))
        ]
    return found


def _file(name, roots, top):
    """What is wrong with one file that a top file names, or nothing."""
    below = str(name).replace(".", "/")
    paths = [Path(root, path) for root in roots for path in (f"{below}.sls", f"{below}/init.sls")]
    there = [path for path in paths if path.is_file()]
    if there:
        return unreadable(there[0])
    lines = top.read_text().splitlines()
    number = next((number for number, line in enumerate(lines, 1) if line.strip() in (f"- {name}", name)), 1)
    return f"{top}, line {number}: there is no {paths[0]}."
