"""What a move notes on its hosts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tools.host import Host


@dataclass(frozen=True)
class Notes:
    """What is noted on a host: its machine-id(5), where its relay has moved to, whose mail it takes or has taken."""

    machine: str
    moved: str
    migration: Mapping

    @classmethod
    def of(cls, host: Host) -> "Notes":
        machine, moved, migration = [*host.lines("notes"), "", ""][:3]
        return cls(machine, moved, json.loads(migration or "{}"))
