"""The relay's addresses for its operator: which there are, shutting one off, removing one. To be run as vmail."""

import argparse
import heapq
import json
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path

from .config import Config, read_config_or_exit
from .doveauth import PROBES
from .expire import natural
from .mailboxes import password_hash, scanner
from .mailboxes.mailbox import Mailbox

CONFIG = Path("/etc/chatmail/accounts.toml")
ORDERS = ("size", "last_login", "address")


class NoSuchAddress(Exception):
    """Nobody has created the address."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the operator is told of an address."""

    address: str
    size: int  # bytes of messages, as the quota counts them
    last_login: int | None  # Unix seconds of the day; None where the address was not created
    banned: bool


def message_bytes(box: Mailbox) -> int:
    """Bytes of the messages in `box`, by Dovecot's own sum, or counted where there is none.

    The file has a line with the quota, then lines of ``bytes messages``, to be added up (Maildir++).

    :raises OSError: the mailbox cannot be looked at.
    """
    try:
        lines = box.quota_cache_path.read_text(encoding="ascii").splitlines()[1:]
        return sum(int(line.split()[0]) for line in lines)
    except (FileNotFoundError, ValueError, IndexError):
        return sum(map(scanner.size, scanner.scan(box.path).messages))


def account(box: Mailbox) -> Account:
    """Look at one address.

    :raises OSError: the mailbox cannot be looked at.
    """
    return Account(box.address, message_bytes(box), box.last_login(), box.is_disabled())


def accounts(config: Config, *, banned: bool) -> Iterator[Account]:
    """All addresses, or those that are shut off, in the directory's order, but for those of probes.

    What fails with one is reported on standard error, and the next one follows.
    """
    for box in scanner.mailboxes(config):
        if box.address.partition("@")[0] in PROBES or (banned and not box.is_disabled()):
            continue
        try:
            yield account(box)
        except OSError as error:
            print(f"accounts: {error}", file=sys.stderr)


def first(found: Iterator[Account], order: str, limit: int) -> tuple[int, list[Account]]:
    """How many there are, and the `limit` first by `order`: the largest, those not used for longest, or by name.

    No more than `limit` are kept in memory.
    """
    count = 0

    def counted() -> Iterator[Account]:
        nonlocal count
        for one in found:
            count += 1
            yield one

    if order == "size":
        listed = heapq.nlargest(limit, counted(), key=attrgetter("size"))
    elif order == "last_login":
        listed = heapq.nsmallest(limit, counted(), key=lambda one: one.last_login or 0)
    else:
        listed = heapq.nsmallest(limit, counted(), key=attrgetter("address"))
    return count, listed


def existing(config: Config, address: str) -> Mailbox:
    """The mailbox of `address`.

    :raises NoSuchAddress: there is none, or it is one of another domain.
    """
    address = address.lower()
    try:
        box = config.mailbox(address)
    except ValueError as error:
        raise NoSuchAddress(f"{address!r} is no address: {error}") from error
    if not address.endswith(f"@{config.mail_domain}") or not box.path.is_dir():
        raise NoSuchAddress(f"there is no address {address!r} on this relay")
    return box


def info(box: Mailbox) -> dict:
    """All that there is to tell of one address: `Account`, and its messages, devices and rule for cleartext."""
    return asdict(account(box)) | {
        "messages": len(scanner.scan(box.path).messages),
        "takes_cleartext": not box.enforces_e2ee(),
    }


def ban(box: Mailbox) -> dict:
    """Shut the address off: no login, and mail to and from it is dropped. Its messages stay.

    Clients that are connected stay so. Those that hibernate share one process, so that Dovecot cannot end one of them;
    something new in their folders brings each back to a process of its own. Dovecot passes over hidden files there.
    """
    box.disabled_path.touch(mode=0o600)
    for folder in (*box.path.glob("new"), *box.path.glob(".*/new")):
        (folder / ".banned").touch()
        (folder / ".banned").unlink(missing_ok=True)
    return asdict(account(box))


def unban(box: Mailbox) -> dict:
    """Undo `ban`."""
    box.disabled_path.unlink(missing_ok=True)
    return asdict(account(box))


def delete(box: Mailbox) -> dict:
    """Remove the address with all its messages, as expiry does. Whoever logs in with it next creates it again."""
    gone = asdict(account(box))
    box.remove()
    return gone


def make_probes(config: Config) -> dict[str, str]:
    """Recreate the addresses of probes, empty, with passwords that nobody knows; return these by address."""
    remove_probes(config)
    passwords = {f"{name}@{config.mail_domain}": secrets.token_urlsafe(16) for name in PROBES}
    for address, password in passwords.items():
        stored = password_hash.sha512_crypt(password.encode(), password_hash.make_salt())
        config.mailbox(address).create("{SHA512-CRYPT}" + stored)
    return passwords


def remove_probes(config: Config) -> None:
    """Remove the addresses of probes, also those that a probe left that was cut short."""
    for name in PROBES:
        box = config.mailbox(f"{name}@{config.mail_domain}")
        if box.path.is_dir():
            box.remove()


_ON_ONE: dict[str, Callable[[Mailbox], dict]] = {"info": info, "ban": ban, "unban": unban, "delete": delete}


def main() -> None:
    """List, look at, shut off or remove addresses; what is printed is JSON."""
    parser = argparse.ArgumentParser(prog="chatmail-accounts", description="The relay's addresses, for its operator.")
    parser.add_argument("--config", type=Path, default=CONFIG, help="settings file (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="addresses, with size and last login")
    listing.add_argument("--order", choices=ORDERS, default=ORDERS[0])
    listing.add_argument("--limit", type=natural, default=50)
    listing.add_argument("--banned", action="store_true", help="those that are shut off, alone")
    for name in _ON_ONE:
        commands.add_parser(name).add_argument("address")
    commands.add_parser("make-probes")
    commands.add_parser("remove-probes")
    arguments = parser.parse_args()
    config = read_config_or_exit(arguments.config, Config)
    try:
        match arguments.command:
            case "list":
                count, listed = first(accounts(config, banned=arguments.banned), arguments.order, arguments.limit)
                result = {"count": count, "listed": [asdict(one) for one in listed]}
            case "make-probes":
                result = make_probes(config)
            case "remove-probes":
                result = remove_probes(config)
            case command:
                result = _ON_ONE[command](existing(config, arguments.address))
    except NoSuchAddress as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"cannot use {error.filename or config.mailboxes_dir}: {error.strerror}; run this as vmail")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
