"""
What an upgrade replaces is kept on the host, so that it can be put back.

Each upgrade has a directory with a number: ``files.tar`` is what was at the paths that it may change, ``before.json``
which paths these are and what else was noted. ``changed.json`` is there once the upgrade is finished, and says
what it has changed: what is put back later is that alone. An upgrade without it was killed, or is at work. While
it is put back, ``to_start.json`` has the units that are to run then.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path

import chatmail_files

ROOT = Path("/var/lib/chatmail-upgrade")
LAST = 3
# Neither mailboxes nor a queue, nor keys that ACME brings, are anywhere here.
PLACES = ("/etc", "/usr", "/var/www")
# Python makes it again.
_CACHE = "__pycache__"
_NEW = "new"
TO_START = "to_start.json"


@dataclasses.dataclass(frozen=True)
class Upgrade:
    """An upgrade whose before is kept in ``directory``."""

    directory: Path

    @property
    def number(self):
        return int(self.directory.name)

    @property
    def tar(self):
        return self.directory / "files.tar"

    @property
    def before(self):
        """What was noted: a mapping, whose ``paths`` are what ``look`` has said of each path."""
        return json.loads((self.directory / "before.json").read_text())

    @property
    def changed(self):
        """What it has changed (mapping), or None where it is not finished."""
        try:
            return json.loads((self.directory / "changed.json").read_text())
        except FileNotFoundError:
            return None

    @property
    def to_start(self):
        """Units (list) that are to run when all is put back, where that has begun."""
        try:
            return json.loads((self.directory / TO_START).read_text())
        except FileNotFoundError:
            return []

    def note(self, name, facts):
        """Write ``facts`` to the file ``name``, which is the old one or the new one."""
        chatmail_files.replace(self.directory / name, json.dumps(facts).encode(), 0o600)


def look(path):
    """
    Return what is at ``path``, to be compared: kind, and what there is to each; a directory has all that is in it.

    None where there is nothing. Raises ``OSError``.
    """
    path = Path(path)
    if path.is_symlink():
        return ["link", str(path.readlink())]
    if not path.is_dir() and not path.is_file():
        return None
    status = path.stat()
    owner = [status.st_mode, status.st_uid, status.st_gid]
    if path.is_dir():
        return ["directory", *owner, {one.name: look(one) for one in sorted(path.iterdir()) if one.name != _CACHE}]
    return ["file", *owner, hashlib.sha256(path.read_bytes()).hexdigest()]


def _is_ours(path):
    """Whether the text ``path`` is what may be put back."""
    return os.path.normpath(path) == path and any(path.startswith(f"{place}/") for place in PLACES)


def _target(path, link):
    """Where the ``link`` at ``path`` leads."""
    return os.path.normpath(Path(path).parent / link)


def _add(tar, path):
    """Add what is at ``path``, and of a link what it leads to as well."""
    added = set()
    while path not in added and _is_ours(path) and (found := look(path)):
        tar.add(path, filter=lambda member: None if member.name.endswith(f"/{_CACHE}") else member)
        added.add(path)
        if found[0] == "link":
            path = _target(path, found[1])


def upgrades(root=None):
    """Return the upgrades (list of ``Upgrade``) of which something is kept below ``root``, the oldest first."""
    root = Path(root or ROOT)
    found = [Upgrade(path) for path in root.iterdir() if path.name.isdigit()] if root.is_dir() else []
    return sorted(found, key=lambda one: one.number)


def keep(paths, notes, root=None):
    """
    Keep what is at ``paths`` (absolute, text), and ``notes`` (mapping), before an upgrade changes it.

    Where one is not finished, its before holds: only what it does not have yet is added. Paths outside of ``PLACES``
    do not count. Returns the ``Upgrade``. Raises ``OSError``; then nothing is kept, or what was.
    """
    root = Path(root or ROOT)
    root.mkdir(mode=0o700, exist_ok=True)
    there = upgrades(root)
    if there and there[-1].changed is None:
        one, before = there[-1], there[-1].before
    else:
        one, before = Upgrade(root / _NEW), {**notes, "paths": {}}
        shutil.rmtree(one.directory, ignore_errors=True)
        one.directory.mkdir(mode=0o700)
    more = {path: look(path) for path in paths if _is_ours(path) and path not in before["paths"]}
    tar_new = one.tar.with_suffix(".new")
    if one.tar.exists():
        shutil.copyfile(one.tar, tar_new)
    with tarfile.open(tar_new, "a" if one.tar.exists() else "w") as tar:
        for path in more:
            _add(tar, path)
    tar_new.chmod(0o600)
    with tar_new.open("rb") as file:
        os.fsync(file.fileno())
    tar_new.replace(one.tar)
    before["paths"] |= more
    one.note("before.json", before)
    if one.directory.name == _NEW:
        # As a whole: what has a number can be put back.
        one = Upgrade(one.directory.rename(root / str(there[-1].number + 1 if there else 1)))
    os.sync()
    return one


def changed_paths(upgrade):
    """Return which paths (list) are not as before ``upgrade``: of a finished one, of those that it has changed."""
    changed, before = upgrade.changed, upgrade.before["paths"]
    return [path for path in (changed["paths"] if changed else before) if look(path) != before[path]]


def finish(upgrade, facts):
    """Note that ``upgrade`` is done, with ``facts`` (mapping) and the ``paths`` that it has changed; keep the last."""
    upgrade.note("changed.json", {**facts, "paths": changed_paths(upgrade)})
    for one in upgrades(upgrade.directory.parent)[:-LAST]:
        forget(one)


def put_back(upgrade):
    """Put back what was there before ``upgrade`` at its ``changed_paths``. Can be repeated. Raises ``OSError``."""
    before = upgrade.before["paths"]
    with tarfile.open(upgrade.tar) as tar:
        # All that is in it is ours: owners and modes are put back too.
        tar.extraction_filter = lambda member, _: member
        for path in changed_paths(upgrade):
            _remove(path)
            found = before[path]
            if found is None:
                continue
            _extract(tar, path)
            if found[0] == "link" and look(target := _target(path, found[1])) is None and _is_ours(target):
                _extract(tar, target)
    os.sync()


def _extract(tar, path):
    name = path.lstrip("/")
    members = [one for one in tar.getmembers() if one.name == name or one.name.startswith(f"{name}/")]
    tar.extractall("/", members, numeric_owner=True)  # noqa: S202  root alone can have written it


def _remove(path):
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def forget(upgrade):
    """Keep nothing of ``upgrade`` any more."""
    # By another name first: half of it would not be what can be put back.
    leaving = upgrade.directory.with_name(_NEW)
    shutil.rmtree(leaving, ignore_errors=True)
    upgrade.directory.rename(leaving)
    shutil.rmtree(leaving)
