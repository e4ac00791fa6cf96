"""Settings of a service: a TOML file of its own in ``/etc/chatmail``, read once at start.

The formula has checked and derived all values (``_utils/chatmail_schema.py``), so that nothing here computes or judges
them. Each service declares what it reads by a dataclass: a field for each key of its file. An apply has the file read
by the service's new source before it replaces the old one: ``python3 -m chatmaild.config chatmaild.doveauth:Settings
FILE``.
"""

import importlib
import sys
import tomllib
import types
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from .mailboxes.mailbox import Mailbox

Settings = TypeVar("Settings")

# The relay's own bots, by the local parts of their addresses, which nobody else can have: where each writes the hash of
# its password, for doveauth.
BOTS = {"echo": Path("/run/echobot/password"), "operator-bot": Path("/run/operator-bot/password")}

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "text", tuple: "a list"}


class ConfigError(Exception):
    """The settings file cannot be used; the text names the file and every fault in it."""


def bot_password(address: str) -> Path | None:
    """Where the bot with this address of the relay's has the hash of its password; None where it is no bot's."""
    return BOTS.get(address.partition("@")[0])


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every service that knows mailboxes reads."""

    mail_domain: str  # what follows the @ in an address; a domain literal for an IPv4 relay
    mailboxes_dir: Path

    def mailbox(self, address: str) -> "Mailbox":
        """The mailbox of `address`, whether it exists or not; nothing is created.

        :raises ValueError: no mailbox can have that address.
        """
        # A megabyte, which services without mailboxes do without.
        from .mailboxes.mailbox import Mailbox

        return Mailbox(self.mailboxes_dir, address)


def read_config(path: str | Path, kind: type[Settings]) -> Settings:
    """Read the settings file at `path`; keys that `kind` has no field for are another version's, and do not count.

    :param kind: a dataclass whose fields are of the types str, int, float, bool, Path and tuple[str, ...].
    :raises ConfigError: the file cannot be read, or settings are missing or of another type; all of them are named.
    """
    values = _read_values(Path(path))
    hints = get_type_hints(kind)
    settings: dict[str, Any] = {}
    faults = []
    for field in fields(kind):
        if field.name in values:
            try:
                settings[field.name] = _typed(values[field.name], hints[field.name])
            except TypeError as error:
                faults.append(f"{field.name} is {values[field.name]!r}; allowed is {error}")
        elif field.default is MISSING:
            faults.append(f"{field.name} is missing; an apply writes it")
    if faults:
        raise ConfigError("\n".join(f"{path}: {fault}" for fault in faults))
    return kind(**settings)


def _typed(value: Any, hint: Any) -> Any:
    """`value` as `hint` wants it; raises TypeError, which says what that is, where it is of another type."""
    if isinstance(hint, types.UnionType):
        hint = get_args(hint)[0]  # a setting that may be missing: text | None
    wanted = get_origin(hint) or hint
    if wanted is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if wanted is Path and isinstance(value, str):
        return Path(value)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise TypeError(_WORDS[wanted])
    return value


def _read_values(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the settings: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_config_or_exit(path: Path, kind: type[Settings]) -> Settings:
    """The settings of a command; exit status 1 with the faults on standard error if they cannot be used."""
    try:
        return read_config(path, kind)
    except ConfigError as error:
        sys.exit(str(error))


def main() -> None:
    """The command line ``MODULE:CLASS FILE``: exit status 1 and the faults on standard error if it cannot be used."""
    kind, path = sys.argv[1:]
    module, _, name = kind.partition(":")
    read_config_or_exit(Path(path), getattr(importlib.import_module(module), name))


if __name__ == "__main__":
    main()
