"""Whether the machine has room for another address."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..config import Config

MIB = 1024 * 1024
FREE_FILES_SHARE = 20  # of the files that a file system can have, one in so many stays free

logger = logging.getLogger(__name__)


def available_memory() -> int:
    """Memory in MiB that programs can have without swapping (``MemAvailable``, proc_meminfo(5)).

    :raises OSError: /proc/meminfo cannot be read.
    """
    with Path("/proc/meminfo").open(encoding="ascii") as meminfo:
        for line in meminfo:
            name, value, *_unit = line.split()
            if name == "MemAvailable:":
                return int(value) // 1024
    raise OSError("/proc/meminfo has no MemAvailable")


def free_disk_space(path: Path) -> int:
    """Space in MiB that users may still fill in the file system of `path`.

    :raises OSError: `path` cannot be looked at.
    """
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize // MIB


def lacks_files(path: Path) -> bool:
    """Whether the file system of `path` has little room for further files, however small; false where it has no limit.

    :raises OSError: `path` cannot be looked at.
    """
    status = os.statvfs(path)
    return status.f_favail < status.f_files // FREE_FILES_SHARE


@dataclass(frozen=True, kw_only=True)
class Limits(Config):
    """What the machine must have left for another address."""

    max_load_1m: float
    min_available_memory_mb: int
    min_free_disk_space_mb: int


def exceeded_limit(config: Limits) -> str | None:
    """Say which of the limits in `config` the machine has passed now, None if it has room.

    What cannot be measured limits nothing; a warning is logged.
    """
    load = _measure("the load", lambda: os.getloadavg()[0])
    if load is not None and load > config.max_load_1m:
        return f"load {load:.2f} is above {config.max_load_1m:.2f}"
    memory = _measure("the available memory", available_memory)
    if memory is not None and memory < config.min_available_memory_mb:
        return f"available memory {memory} MB is below {config.min_available_memory_mb} MB"
    space = _measure("the free disk space", lambda: free_disk_space(config.mailboxes_dir))
    if space is not None and space < config.min_free_disk_space_mb:
        return f"free disk space {space} MB is below {config.min_free_disk_space_mb} MB"
    if _measure("the free files", lambda: lacks_files(config.mailboxes_dir)):
        return "the disk has room for few further files; `df -i` shows how many"
    return None


def _measure(name: str, read: Callable[[], float]) -> float | None:
    try:
        return read()
    except OSError as error:
        logger.warning("ignoring the limit on %s, which cannot be read: %s", name, error)
        return None
