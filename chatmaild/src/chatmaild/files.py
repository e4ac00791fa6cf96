"""Files that readers see as a whole: the old one, or the new one."""

import contextlib
import os
import tempfile
from pathlib import Path

UNFINISHED = ".tmp-"  # in the name of a file whose writing has not ended; a crash leaves it behind


def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Let `path`, which need not exist, hold `data`.

    A crash of the program leaves what was there or all of `data`; a crash of the host may leave an empty file.

    :param mode: the file's permissions, whatever those of the old one.
    :raises OSError: the file system refused; the old file stays, and nothing else is left behind.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}{UNFINISHED}", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(descriptor, mode)
        Path(temporary).rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
