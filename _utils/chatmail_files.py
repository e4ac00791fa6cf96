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


def draft(directory, data):
    """
    Write ``data`` (bytes) to a new file in ``directory``, and return its path.

    It belongs to whom the directory does, has mode 0600, and is on disk. Raises ``OSError``.
    """
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=".draft-")
    with os.fdopen(descriptor, "wb") as file:
        owner = Path(directory).stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    return Path(name)


def create(path, data):
    """Write ``data`` (bytes) to ``path`` as ``draft`` does. Raises ``FileExistsError`` where there is something."""
    temporary = draft(Path(path).parent, data)
    try:
        # link(2) refuses where rename(2) would replace.
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
