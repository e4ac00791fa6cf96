"""Files of the operator's that Salt reads: the roster, the top file, a pillar."""

from pathlib import Path

import yaml

import chatmail_pillar
from tools.errors import ApplyError


def mapping(path: Path) -> dict:
    """Return what a file holds, nothing where there is none. Raises ``ApplyError`` where it is no mapping in YAML."""
    if not path.exists():
        return {}
    if problem := chatmail_pillar.unreadable(path):
        raise ApplyError(problem)
    try:
        found = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ApplyError(f"{path} has Jinja in it, which only Salt reads; use salt-ssh itself.") from error
    if found is not None and not isinstance(found, dict):
        raise ApplyError(f"{path} holds no mapping; see docs/applying.md.")
    return found or {}
