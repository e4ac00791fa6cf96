"""
Files that readers see as a whole: the old one or the new one.
"""

import os
import tempfile
from pathlib import Path


def replace(path, data, mode):
    """
    Write ``data`` (bytes) to ``path`` with the permissions ``mode``; the directory is made where it is missing.

    Readers see the old file or the whole new one, which is on disk then. Raises ``OSError``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
