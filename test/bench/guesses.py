"""How many passwords of one address a stranger can try, by IMAP and by SMTP, and whether its owner still gets in.

``python -m test.bench.guesses DOMAIN HOST PLACE``; PLACE is an address of this machine, from which guesses come. The
owner comes from the usual one. Run it against relays of your own alone.
"""

import asyncio
import base64
import collections
import contextlib
import sys
import time

from test.relay.delivery import Relay, User, new_user
from test.support.mail_clients import quoted, unchecked_tls
from test.support.mailing import imap_login

CONNECTIONS = 150
SECONDS = 20
IMAP, SMTPS = 993, 465


def kind(port: int, line: bytes) -> str:
    """What an answer to a try says."""
    if port == IMAP:
        return next((code for code in ("AUTHENTICATIONFAILED", "UNAVAILABLE", "OK") if code.encode() in line), "other")
    return line[:3].decode(errors="replace")


async def dialogue(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, user: User, guess: str):
    """One try; returns the line that answers it."""
    if port == IMAP:
        writer.write(f"a LOGIN {quoted(user.address)} {quoted(guess)}\r\n".encode())
    else:
        initial = base64.b64encode(f"\0{user.address}\0{guess}".encode()).decode()
        writer.write(f"AUTH PLAIN {initial}\r\n".encode())
    while line := await reader.readline():
        if port == SMTPS or line.startswith(b"a "):
            return line
    raise ConnectionError


async def guesser(port: int, user: User, place: str, answers: collections.Counter, until: float) -> None:
    """Try passwords in one connection after the other."""
    number = 0
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(
                user.relay.address, port, ssl=unchecked_tls(), local_addr=(place, 0)
            )
            await reader.readline()
            if port == SMTPS:
                writer.write(b"EHLO guess.test\r\n")
                while (await reader.readline())[3:4] == b"-":
                    pass
            while time.monotonic() < until:
                number += 1
                answers[kind(port, await dialogue(reader, writer, port, user, f"guess {number}"))] += 1
            writer.close()


async def attack(port: int, user: User, place: str) -> None:
    answers: collections.Counter = collections.Counter()
    begun = time.monotonic()
    guessers = [guesser(port, user, place, answers, begun + SECONDS) for _ in range(CONNECTIONS)]
    running = asyncio.gather(*(asyncio.wait_for(one, SECONDS + 30) for one in guessers), return_exceptions=True)
    owner = collections.Counter()
    slowest = 0.0
    while time.monotonic() < begun + SECONDS:
        asked = time.monotonic()
        try:
            owner[await asyncio.to_thread(imap_login, user)] += 1
        except (OSError, AssertionError) as error:
            owner[repr(error)[:60]] += 1
        slowest = max(slowest, time.monotonic() - asked)
        await asyncio.sleep(0.5)
    await running
    figures = ", ".join(f"{count / SECONDS:.1f}/s {what}" for what, count in answers.most_common())
    print(f"port {port}: {figures}; the owner meanwhile: {dict(owner)}, the slowest in {slowest:.1f} s")


def main() -> None:
    domain, host, place = sys.argv[1:]
    user = new_user(Relay(domain, host))
    imap_login(user)
    for port in (IMAP, SMTPS):
        asyncio.run(attack(port, user, place))


if __name__ == "__main__":
    main()
