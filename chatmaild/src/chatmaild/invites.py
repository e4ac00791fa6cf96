"""Invites: tokens with which a new address' password has to begin on a relay that is for invited people alone.

Each is a file of its own, named after the token, in a directory of vmail's. doveauth counts their uses; the command
line below makes, lists and withdraws them.
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import secrets
import string
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from . import files

DIRECTORY = Path("/var/lib/doveauth/invites")
TOKEN_LENGTH = 12  # characters: 62 bits, so that nobody finds one by trying
TOKEN = f"[a-z0-9]{{{TOKEN_LENGTH}}}"
DAY = 86400  # seconds
USES_MAX = 1_000_000
DAYS_MAX = 3650


@dataclass(frozen=True)
class Invite:
    """What a token is good for."""

    token: str
    uses_left: int
    expires: int  # Unix seconds

    def is_valid(self) -> bool:
        """Whether an address may be created with it now."""
        return self.uses_left > 0 and time.time() < self.expires


class Invites:
    """The invites of one relay."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory

    def find(self, password: str) -> Invite | None:
        """The valid invite with which `password` begins, None if there is none.

        :raises OSError: the file system refused.
        """
        token = password[:TOKEN_LENGTH]
        if not re.fullmatch(TOKEN, token):
            return None
        invite = self._read(token)
        return invite if invite and invite.is_valid() else None

    def use(self, token: str) -> bool:
        """Count one use; False if the invite is no longer valid.

        :raises OSError: the file system refused; nothing is counted.
        """
        with self._locked():
            invite = self._read(token)
            if invite is None or not invite.is_valid():
                return False
            if invite.uses_left == 1:
                self._path(token).unlink()
            else:
                self._write(Invite(token, invite.uses_left - 1, invite.expires))
            return True

    def make(self, uses: int, days: int) -> Invite:
        """Make an invite for `uses` addresses that ends in `days` days.

        :raises OSError: the file system refused.
        """
        token = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(TOKEN_LENGTH))
        invite = Invite(token, uses, int(time.time()) + days * DAY)
        with self._locked():
            self._write(invite)
        return invite

    def valid(self) -> list[Invite]:
        """The invites that are good for something, those that end first at the front; the others are forgotten.

        :raises OSError: the file system refused.
        """
        with self._locked():
            invites = [invite for path in self._directory.iterdir() if (invite := self._read(path.name))]
            for invite in invites:
                if not invite.is_valid():
                    self._path(invite.token).unlink()
        return sorted((invite for invite in invites if invite.is_valid()), key=lambda invite: invite.expires)

    def revoke(self, token: str) -> bool:
        """Withdraw an invite; False if there is none. Addresses that were made with it stay.

        :raises OSError: the file system refused.
        """
        with self._locked():
            if not re.fullmatch(TOKEN, token) or not self._path(token).exists():
                return False
            self._path(token).unlink()
            return True

    def _path(self, token: str) -> Path:
        return self._directory / token

    def _read(self, token: str) -> Invite | None:
        if not re.fullmatch(TOKEN, token):
            return None
        try:
            values = json.loads(self._path(token).read_text(encoding="ascii"))
            return Invite(token, int(values["uses_left"]), int(values["expires"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return Invite(token, 0, 0)  # damaged by hand: good for nothing

    def _write(self, invite: Invite) -> None:
        values = {key: value for key, value in asdict(invite).items() if key != "token"}
        files.replace(self._path(invite.token), f"{json.dumps(values)}\n".encode("ascii"))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Between reading and writing nobody else does either; held for a fraction of a millisecond."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _number(highest: int):
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed is a whole number from 1 to {highest}")
        return int(text)

    return parse


def main() -> None:
    """Make, list or withdraw invites; what is printed is JSON. To be run as vmail."""
    parser = argparse.ArgumentParser(prog="chatmail-invites", description="Invites to a relay that wants them.")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where they are kept")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="make an invite")
    make.add_argument("--uses", type=_number(USES_MAX), default=1, help="addresses that may be created with it")
    make.add_argument("--days", type=_number(DAYS_MAX), default=7, help="days until it ends")
    commands.add_parser("list", help="the invites that are valid")
    commands.add_parser("revoke", help="withdraw an invite").add_argument("token")
    arguments = parser.parse_args()
    invites = Invites(arguments.directory)
    try:
        match arguments.command:
            case "make":
                result = asdict(invites.make(arguments.uses, arguments.days))
            case "list":
                result = [asdict(invite) for invite in invites.valid()]
            case "revoke":
                result = invites.revoke(arguments.token)
    except OSError as error:
        sys.exit(f"cannot use {arguments.directory}: {error.strerror}; run this as vmail on a relay")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
