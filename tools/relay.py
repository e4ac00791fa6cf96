"""
``./relay``: what operators do, a word for each; most of it is a function of Salt's on the relay.

``./relay [RELAY] COMMAND``: which relay, a name of the roster or a glob, may be left out where the roster has one.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tools.errors import ApplyError
from tools.yaml_files import mapping

CONFIG_DIR = Path("etc")
ROSTER = CONFIG_DIR / "roster"
BEGIN = "./relay init chat.example.org"


class UsageError(Exception):
    """What was typed is no command; the message says what there is."""


@dataclass(frozen=True)
class Command:
    """
    A command: what it is for, its arguments, and either the functions of an execution module that it stands for, the
    first of them where none is named, or a Python function that takes relay and arguments and returns an exit code.
    """

    arguments: str
    what: str
    module: str = ""
    functions: tuple[str, ...] = ()
    run: Callable[[str, Sequence[str]], int] | None = None
    needs_relay: bool = True


def names(roster: Path = ROSTER) -> list[str]:
    """Return the hosts that the roster has. Raises ``ApplyError`` where it cannot be read."""
    return list(map(str, mapping(roster)))


def chosen(relay: str | None, known: Sequence[str]) -> str:
    """Return which relay is meant. Raises ``ApplyError`` where none is named and there is not exactly one."""
    if relay is not None:
        return relay
    if not known:
        raise ApplyError(f"{ROSTER} names no relay yet. To begin: {BEGIN}")
    if len(known) > 1:
        raise ApplyError(
            f"{ROSTER} has several relays: {', '.join(known)}. Say which: ./relay {known[0]} COMMAND, "
            "or ./relay '*' COMMAND for all of them."
        )
    return known[0]


def function_call(command: Command, arguments: Sequence[str]) -> list[str]:
    """Return Salt's function and its arguments. Raises ``UsageError`` for a word that is neither."""
    function = command.functions[0]
    if arguments and re.fullmatch(r"[a-z_]+", arguments[0]):
        function, *arguments = arguments
        if function not in command.functions:
            raise UsageError(f"There is no {function} here; there is: {', '.join(command.functions)}.")
    return [f"{command.module}.{function}", *arguments]


def salt_ssh(relay: str, arguments: Sequence[str]) -> NoReturn:
    """Become salt-ssh."""
    program = Path(sys.executable).with_name("salt-ssh")
    sys.stdout.flush()
    os.execv(program, [str(program), f"--config-dir={CONFIG_DIR}", relay, *arguments])  # noqa: S606  no shell is wanted


def _apply(relay: str, arguments: Sequence[str]) -> int:
    from tools.apply import main

    return main([relay, *(f"--sls={sls}" for sls in arguments)])


def _upgrade(relay: str, arguments: Sequence[str]) -> int:
    from tools.upgrade import main

    return main([relay, *(f"--sls={sls}" for sls in arguments)])


def _rollback(relay: str, _: Sequence[str]) -> int:
    from tools.upgrade import main

    return main([relay, "--back"])


def _status(relay: str, arguments: Sequence[str]) -> int:
    if "*" in relay and not arguments:
        from tools.fleet import main

        return main([relay])
    salt_ssh(relay, ["chatmail_relay.status", *arguments])


def _preview(relay: str, arguments: Sequence[str]) -> NoReturn:
    salt_ssh(relay, ["state.apply", ",".join(arguments) or "chatmail", "test=True"])


def _salt(relay: str, arguments: Sequence[str]) -> NoReturn:
    if not arguments:
        raise UsageError("Which function? As in: ./relay salt test.ping")
    salt_ssh(relay, arguments)


def _init(_: str, arguments: Sequence[str]) -> int:
    from tools.begin import main

    return main(arguments)


def _migrate(_: str, arguments: Sequence[str]) -> int:
    from tools.migrate.__main__ import main

    return main(arguments)


def _restore(relay: str, arguments: Sequence[str]) -> int:
    from tools.restore.__main__ import main

    return main([relay, *arguments])


def _remove(relay: str, arguments: Sequence[str]) -> int:
    from tools.remove.__main__ import main

    return main([relay, *arguments])


def _watch(_: str, arguments: Sequence[str]) -> int:
    from tools.watch import main

    return main(arguments)


def _web(_: str, arguments: Sequence[str]) -> int:
    from tools.web import main

    return main(arguments)


COMMANDS = {
    "init": Command(
        "DOMAIN", "begin: asks for the host, tries ssh, prints the DNS records", run=_init, needs_relay=False
    ),
    "apply": Command("", "deploy or update, with progress; all, or parts such as chatmail.postfix", run=_apply),
    "preview": Command("", "what an apply would change", run=_preview),
    "upgrade": Command("", "apply with a way back: where the relay gets worse, all is put back", run=_upgrade),
    "rollback": Command("", "put back what was there before the last upgrade", run=_rollback),
    "status": Command("", "is it well, and if not, what to do next; for '*' a line a relay", run=_status),
    "watch": Command(
        "[--tell COMMAND]", "tell what got worse with all relays, or well again, once", run=_watch, needs_relay=False
    ),
    "dns": Command("[zone]", "are the DNS records right; as a zone file", "chatmail_dns", ("check", "zone", "publish")),
    "accounts": Command(
        "[ban ADDRESS]",
        "addresses, with size and last login; also info, unban, delete, nocreate",
        "chatmail_account",
        ("list", "info", "ban", "unban", "delete", "nocreate"),
    ),
    "invite": Command("[uses=1]", "an invite, where only invited people get in", "chatmail_account", ("invite",)),
    "invites": Command(
        "[revoke_invite TOKEN]", "invites that are valid", "chatmail_account", ("invites", "revoke_invite")
    ),
    "queue": Command(
        "[retry DOMAIN]", "mail that waits, and why; also drop", "chatmail_queue", ("list", "retry", "drop")
    ),
    "reach": Command("DOMAIN", "by which ways mail reaches a domain, and if not, why", "chatmail_relay", ("reach",)),
    "cert": Command("", "which daemon serves which certificate, and how long it is valid", "chatmail_cert", ("show",)),
    "dkim": Command("[rotate]", "does the published key verify what is signed", "chatmail_dkim", ("check", "rotate")),
    "echobot": Command("", "the link to the relay's echobot", "chatmail_echobot", ("link",)),
    "bot": Command(
        "[operators]",
        "a link to the bot that tells you what got worse; also remove ADDRESS",
        "chatmail_bot",
        ("link", "operators", "remove"),
    ),
    "backup": Command(
        "[check]", "save now what must not be lost; read all that was saved", "chatmail_backup", ("save", "check")
    ),
    "restore": Command("--from=REPOSITORY", "make a bare host the relay of a backup", run=_restore),
    "migrate": Command("OLD NEW", "move a relay to a new host", run=_migrate, needs_relay=False),
    "remove": Command("[--dry-run]", "delete a relay with all mail and keys, once its domain was typed", run=_remove),
    "web": Command("", "see the web pages while you write them", run=_web, needs_relay=False),
    "salt": Command("FUNCTION", "any other function of Salt", run=_salt),
}


def usage(known: Sequence[str]) -> str:
    """Return what there is, for people; ``known`` are the relays of the roster."""
    calls = {f"{name} {command.arguments}".rstrip(): command.what for name, command in COMMANDS.items()}
    width = max(map(len, calls))
    lines = ["./relay [RELAY] COMMAND, from any directory", ""]
    lines += [f"  {call:<{width}}  {what}" for call, what in calls.items()]
    lines += ["", f"{ROSTER} has: {', '.join(known)}" if known else f"There is no relay in {ROSTER} yet: {BEGIN}"]
    return "\n".join(lines)


def run(words: Sequence[str]) -> int:
    """Do what the words of a command line say. Raises ``ApplyError`` and ``UsageError``."""
    relay = None
    if words and words[0] not in COMMANDS and ("*" in words[0] or words[0] in names()):
        relay, *words = words
    if not words or words[0] in ("help", "-h", "--help"):
        print(usage(names()))
        return 0
    name, *arguments = words
    command = COMMANDS.get(name)
    if command is None:
        raise UsageError(f"There is no command {name}, and no such relay in {ROSTER}. ./relay says what there is.")
    target = chosen(relay, names()) if command.needs_relay else ""
    if command.run:
        return command.run(target, arguments)
    salt_ssh(target, function_call(command, arguments))


def main(words: Sequence[str] | None = None) -> int:
    """Run the command. Returns 2 for what is no command, 1 for what could not begin, else the command's exit code."""
    try:
        return run(sys.argv[1:] if words is None else words)
    except (ApplyError, UsageError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except (KeyboardInterrupt, EOFError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
