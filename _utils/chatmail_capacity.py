"""
Is a host large enough to be a relay.
"""

import os
import re
from pathlib import Path

# What providers sell as 1 GB of memory and 10 GB of disk shows a little less of both.
MEMORY_MB = 900
DISK_MB = 9000
MB = 1024**2


def shortages(root="/", mailboxes_dir="home/vmail/mail"):
    """
    Return what the host below ``root`` has too little of (list of sentences): memory, or the disk where
    ``mailboxes_dir`` (path) is or will be.
    """
    found = []
    memory = Path(root, "proc/meminfo")
    total = re.search(r"^MemTotal: +(\d+) kB", memory.read_text(), re.MULTILINE) if memory.is_file() else None
    if total and int(total[1]) // 1024 < MEMORY_MB:
        found.append(
            f"the host has {int(total[1]) // 1024} MB of memory; a relay needs 1 GB: take a larger host, or no address "
            "could be created."
        )
    directory = Path(root, str(mailboxes_dir).lstrip("/"))
    while not directory.exists():
        directory = directory.parent
    disk = os.statvfs(directory)
    size = disk.f_blocks * disk.f_frsize // MB
    if size < DISK_MB:
        found.append(
            f"the disk of {mailboxes_dir} has {size} MB; a relay needs 10 GB: take a larger one, or the first "
            "mailboxes fill it."
        )
    return found
