"""
What the operator's bot is told and may ask, on the host: the hourly status, and the commands that operators write.

A program that runs as root where the bot has no rights: ``hourly`` by a timer, ``answer`` for each connection of the
bot's, with one request in one line, a JSON list of a word and its arguments, and one text in return. No shell is
between the two, and there is nothing else that a request can name.
"""

import json
import socket
import sys
import time
from pathlib import Path

from chatmail_errors import CommandExecutionError
from chatmail_files import replace
from chatmail_host import commands
from chatmail_news import changes, faults, finding_text
from chatmail_words import age_text, counted, size_text

LAST = Path("/var/lib/chatmail-status/last.json")
BOT = "/run/chatmail-operator/bot.socket"
BOT_PATIENCE_S = 60
# What is well again by then is nothing to wake people for: a daemon that restarts, an apply.
AGAIN_AFTER_S = 20
REQUEST_MAX = 1000  # bytes
TOLD_MAX = 8000  # characters; the bot takes no request of more than 64 kB
DESTINATIONS_TOLD, ACCOUNTS_TOLD = 20, 10


def hourly(functions, tell):
    """
    Look at the relay, ``tell`` (a function that takes a text) what got worse or well again, and keep the result.

    ``functions`` are those of ``chatmail_host.commands``. Where telling fails nothing is kept, so that the next run
    tells it. Raises ``OSError`` and ``CommandExecutionError``.
    """
    known = _told()
    status = functions["chatmail_relay.examine"]()
    wrong = faults(status)
    if wrong.keys() - known.keys():
        time.sleep(AGAIN_AFTER_S)
        status = functions["chatmail_relay.examine"]()
        wrong = {key: text for key, text in faults(status).items() if key in wrong}
    if lines := changes(known, wrong):
        tell("\n\n".join(lines)[:TOLD_MAX])
    replace(LAST, json.dumps({"time": int(time.time()), "told": wrong, "status": status}).encode(), 0o600)


def _told():
    try:
        return json.loads(LAST.read_text())["told"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # A file that is cut off: what is wrong is told once more.
        return {}


def ask_bot(*request):
    """
    Ask the bot (list of text, as ``chatmaild.operator_bot`` has them), and return its answer.

    Raises ``CommandExecutionError`` where it does not answer, or says that it cannot.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(BOT_PATIENCE_S)
            connection.connect(BOT)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as file:
                answer = json.loads(file.readline())
    except FileNotFoundError as error:
        raise CommandExecutionError(
            "this relay has no bot for its operator: set `operator_bot: true` in the pillar and apply chatmail"
        ) from error
    except (OSError, ValueError) as error:
        raise CommandExecutionError("the bot does not answer; see `systemctl status operator-bot`") from error
    if "error" in answer:
        raise CommandExecutionError(answer["error"])
    return answer["result"]


def _status(functions):
    found = functions["chatmail_relay.examine"]()
    head = f"{found['relay'] or 'no relay'}: {counted(found['findings']) or 'all is well'}"
    looked = f"{len(found['checks'])} checks in {found['seconds']:.0f} s"
    return "\n\n".join([head, *map(finding_text, found["findings"]), looked])


def _queue(functions):
    lines = functions["chatmail_queue.list"](DESTINATIONS_TOLD)
    now = time.time()
    return "\n\n".join(
        f"{line['messages']} for {line['destination']}, since {age_text(now - line['since'])}, by {line['way']}"
        f"{': ' if line['reason'] else ''}{line['reason']}"
        for line in lines
    ) or ("no message waits")


def _accounts(functions):
    found = functions["chatmail_account.list"](limit=ACCOUNTS_TOLD)
    lines = [f"{found['count']} addresses{'; the largest:' if found['count'] > 1 else ''}"]
    for one in found["listed"]:
        login = time.strftime("%Y-%m-%d", time.gmtime(one["last_login"])) if one["last_login"] else "never"
        lines.append(
            f"{one['address']}: {size_text(one['size'])}, last login {login}{', banned' if one['banned'] else ''}"
        )
    return "\n".join(lines)


def _ban(functions, address):
    address = functions["chatmail_account.ban"](address)["address"]
    return (
        f"{address} is banned: it cannot log in, and mail to and from it is dropped. Its messages stay."
        f" To undo it: salt-ssh relay chatmail_account.unban {address}"
    )


COMMANDS = {("status", 0): _status, ("queue", 0): _queue, ("accounts", 0): _accounts, ("ban", 1): _ban}
"""By word and number of arguments."""


def answer(line, functions):
    """
    Return the text that answers a request.

    line
        The request (bytes), a JSON list of text.
    functions
        Those of ``chatmail_host.commands``.
    """
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, list) or not request or not all(isinstance(one, str) for one in request):
        return "there is no such command"
    word, *arguments = request
    command = COMMANDS.get((word, len(arguments)))
    if command is None:
        return "there is no such command"
    try:
        return command(functions, *arguments)
    except (CommandExecutionError, OSError) as error:
        return str(error)


def main():
    """The command line: ``hourly``, or ``answer`` with a request on standard input."""
    if sys.argv[1:] == ["answer"]:
        sys.stdout.write(answer(sys.stdin.buffer.readline(REQUEST_MAX), commands()))
        return
    try:
        hourly(commands(), lambda text: ask_bot("tell", text))
    except (CommandExecutionError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
