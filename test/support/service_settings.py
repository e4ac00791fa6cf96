"""Settings files of our services, written for tests and benchmarks as an apply writes them."""

import json
from pathlib import Path

import yaml

import chatmail_schema
from chatmail_setting_types import TYPES

SCHEMA = yaml.safe_load((Path(__file__).parents[2] / "chatmail/defaults.yaml").read_text())


def write_settings(path: Path, **given) -> Path:
    """
    Write what follows from a pillar, every key for whichever service reads the file.

    Arguments:
        given: settings of the pillar; a value that the schema refuses, or a key that it has not, is written as it is.
    """
    given = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
    pillar = {key: value for key, value in given.items() if key in SCHEMA and _is_allowed(value, SCHEMA[key])}
    values = chatmail_schema.effective(SCHEMA, pillar)
    values |= {key: value for key, value in given.items() if key not in pillar}
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items() if _is_toml(value)))
    return path


def _is_toml(value: object) -> bool:
    """Whether JSON has the value in the form of TOML; no service reads one of another."""
    return value is not None and not (isinstance(value, list) and any(isinstance(item, dict) for item in value))


def _is_allowed(value: object, spec: dict) -> bool:
    try:
        TYPES[spec["type"]].read(value, spec)
    except ValueError:
        return False
    return True
