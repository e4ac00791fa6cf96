"""Single programs that Debian does not have: fetched once, checked against a pinned hash, put in place at once."""

import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path

from salt.exceptions import CommandExecutionError

BLOCK = 1 << 20  # bytes
SIZE_MAX = 200 << 20  # bytes
SILENCE_MAX = 20  # seconds without a byte
TIME_MAX = 300  # seconds in all


def __virtual__():
    return "chatmail_binary"


def sha256(path):
    """
    Return the SHA-256 of the file ``path`` in hexadecimal, or ``""`` where there is no such file.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_binary.sha256 /usr/local/bin/iroh-relay
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def install(path, source, wanted):
    """
    Put a program in place, mode 0755. What was there before stays if anything fails.

    path
        Where it goes; the name of the member too, where the source is an archive.

    source
        URL (https, http), or absolute path on the host: the program, or a tar or zip archive with it.

    wanted
        SHA-256 of the program itself, in hexadecimal.

    Raises ``CommandExecutionError`` with what went wrong.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_binary.install /usr/local/bin/iroh-relay /root/iroh-relay 45c811...
    """
    directory = Path(path).parent
    # Beside the target, so that the last step is one rename(2).
    with tempfile.TemporaryDirectory(dir=directory, prefix=".download-") as scratch:
        fetched, program = Path(scratch, "fetched"), Path(scratch, "program")
        try:
            _fetch(source, fetched)
            _extract(fetched, Path(path).name, program)
        except (
            OSError,
            ValueError,
            http.client.HTTPException,
            tarfile.TarError,
            zipfile.BadZipFile,
            EOFError,
        ) as error:
            raise CommandExecutionError(f"{source}: {error}") from error
        found = sha256(program)
        if found != wanted:
            raise CommandExecutionError(f"{source}: the program's SHA-256 is {found}, wanted is {wanted}")
        program.chmod(0o755)
        program.replace(path)


def _fetch(source, target):
    """Copy a URL or file to a new file, within limits of time and size."""
    deadline = time.monotonic() + TIME_MAX
    url = Path(source).as_uri() if source.startswith("/") else source
    # The operator names the source, and file:// is one that is wanted.
    with urllib.request.urlopen(url, timeout=SILENCE_MAX) as incoming, target.open("wb") as file:  # noqa: S310
        while block := incoming.read(BLOCK):
            file.write(block)
            if file.tell() > SIZE_MAX:
                raise ValueError(f"more than {SIZE_MAX >> 20} MB")
            if time.monotonic() > deadline:
                raise ValueError(f"took more than {TIME_MAX} s")
        file.flush()
        os.fsync(file.fileno())


def _extract(fetched, name, program):
    """Take the file called ``name`` out of a tar or zip archive, or all of what is none."""
    if tarfile.is_tarfile(fetched):
        with tarfile.open(fetched) as archive:
            members = ((member.name, member.size, member) for member in archive if member.isfile())
            _unpack(members, archive.extractfile, name, program)
    elif zipfile.is_zipfile(fetched):
        with zipfile.ZipFile(fetched) as archive:
            members = ((member.filename, member.file_size, member) for member in archive.infolist())
            _unpack(members, archive.open, name, program)
    else:
        fetched.rename(program)


def _unpack(members, opened, name, program):
    """Write the first of the members, triples of path, size and what ``opened`` takes, that is called ``name``."""
    for path, size, member in members:
        if Path(path).name == name:
            if size > SIZE_MAX:
                raise ValueError(f"{name} in the archive has more than {SIZE_MAX >> 20} MB")
            with opened(member) as packed, program.open("wb") as file:
                shutil.copyfileobj(packed, file)
                file.flush()
                os.fsync(file.fileno())
            return
    raise ValueError(f"the archive has no file {name}")
