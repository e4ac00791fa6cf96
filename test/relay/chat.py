"""Delta Chat's real core as a client of the lab's relays: accounts, securejoin, encrypted messages."""

import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from urllib.parse import quote

from deltachat_rpc_client import Account, AttrDict, Chat, DeltaChat, EventType, JsonRpcError, Rpc

from test.relay.errors import RelayError

# Without letters and digits that look alike.
ALPHABET = "23456789abcdefghijkmnpqrstuvwxyz"
SETUP_TIMEOUT_S = 60.0
MESSAGE_TIMEOUT_S = 30.0
# The core spaces what it sends by a limiter of its own: without rests that is what a round trip would measure.
REST_S = 1.2
LOOK_AT_LOGS = "Look at the relay's log: make lab-ssh HOST={host}, then journalctl -n 100"


def credentials(domain: str, prefix: str = "") -> tuple[str, str]:
    """Return a new random address at ``domain``, with the nine characters that a relay wants, and its password."""
    local_part = prefix + "".join(secrets.choice(ALPHABET) for _ in range(9 - len(prefix)))
    return f"{local_part}@{domain}", secrets.token_urlsafe(15)


def login_uri(address: str, password: str, host: str, imap_port: int = 993, smtp_port: int = 465) -> str:
    """
    Return the ``dclogin:`` URI of an account whose servers are at ``host``, with any certificate accepted.

    Ports and security are given, so that the core need not try out what the server can.
    """
    servers = f"ih={host}&ip={imap_port}&is=ssl&ic=3&sh={host}&sp={smtp_port}&ss=ssl&sc=3"
    return f"dclogin:{quote(address, safe='@[]')}?p={quote(password, safe='')}&v=1&{servers}"


def new_login(domain: str, prefix: str = "") -> str:
    """Return the ``dclogin:`` URI of a new address at ``domain``, whose servers are at the domain itself."""
    return login_uri(*credentials(domain, prefix), domain.strip("[]"))


@dataclass
class Client:
    """A running core with one account, online."""

    name: str
    domain: str
    address: str
    rpc: Rpc
    account: Account

    def wait_for(
        self, what: str, matches: Callable[[AttrDict], bool], timeout_s: float = MESSAGE_TIMEOUT_S
    ) -> AttrDict:
        """
        Return the next event that matches, dropping those before it.

        Raises ``RelayError`` after ``timeout_s``; ``what`` is what was waited for.
        """
        events = self.rpc.get_queue(self.account.id)
        deadline = time.monotonic() + timeout_s
        warnings: list[str] = []
        while True:
            try:
                event = AttrDict(events.get(timeout=max(0.0, deadline - time.monotonic())))
            except Empty:
                said = "; ".join(warnings[-3:]) or "the client gave no warning"
                raise RelayError(
                    f"{self.name} ({self.address}): {what} did not come within {timeout_s:.0f} s ({said})",
                    LOOK_AT_LOGS.format(host=self.domain),
                ) from None
            if event.kind in (EventType.WARNING, EventType.ERROR):
                warnings.append(event.msg)
            if matches(event):
                return event

    def receive(self, text: str) -> None:
        """
        Wait for the next incoming message and check it.

        Raises ``RelayError`` where it is not ``text``, or was not encrypted end to end.
        """
        event = self.wait_for("a message", lambda event: event.kind == EventType.INCOMING_MSG)
        message = self.account.get_message_by_id(event.msg_id).get_snapshot()
        if message.text != text:
            raise RelayError(
                f"{self.name} got {message.text!r} instead of {text!r}", LOOK_AT_LOGS.format(host=self.domain)
            )
        if not message.show_padlock:
            raise RelayError(
                f"{self.name} got {text!r} without end-to-end encryption",
                "Compare the clients' versions with the pins.",
            )


@contextmanager
def clients(
    names_and_domains: Sequence[tuple[str, str]],
    wrap: Callable[[list[str]], list[str]],
    directory: Path,
    qr_text: Callable[[str], str] = new_login,
) -> Iterator[list[Client]]:
    """
    Run one core a client, each with a new account that its first login creates; all are configured at once.

    Arguments:
        names_and_domains: who, on which relay: what stands after the @, so ``[192.0.2.7]`` for one without a name.
        wrap: makes the command line with which the core finds the lab's names.
        directory: for the accounts; emptied before.
        qr_text: gives for a domain what stands in the QR code from which the core configures itself.

    Raises ``RelayError`` where a login or the core fails.
    """
    program = shutil.which("deltachat-rpc-server", path=str(Path(sys.executable).parent))
    if not program:
        raise RelayError("deltachat-rpc-server is not installed", "Run `make venv`.")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with ExitStack() as stack:
        found = []
        for name, domain in names_and_domains:
            rpc = Rpc(accounts_dir=str(directory / name), rpc_server_path=wrap([program]))
            stack.enter_context(rpc)
            account = DeltaChat(rpc).add_account()
            account.set_config("displayname", name)
            found.append(Client(name, domain, "", rpc, account))
        with deadline([client.rpc for client in found], SETUP_TIMEOUT_S):
            for client, configured in [
                (client, client.account.add_transport_from_qr.future(qr_text(client.domain))) for client in found
            ]:
                try:
                    configured()
                except JsonRpcError as error:
                    raise RelayError(
                        f"{client.name} cannot log in at {client.domain}: {error}",
                        LOOK_AT_LOGS.format(host=client.domain),
                    ) from error
                client.address = client.account.get_config("configured_addr")
            for client in found:
                client.account.bring_online()
        yield found


@contextmanager
def deadline(rpcs: Sequence[Rpc], seconds: float) -> Iterator[None]:
    """End the cores after ``seconds``: a call that waits for one of them then fails with ``JsonRpcError``."""
    timer = threading.Timer(seconds, lambda: [rpc.process.kill() for rpc in rpcs])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def make_contact(inviter: Client, joiner: Client) -> tuple[Chat, Chat]:
    """
    Let two clients exchange keys by securejoin, as when one scans the other's QR code.

    Returns the chat as the inviter has it, and as the joiner has it.
    """
    joiner_chat = join(joiner, inviter.account.get_qr_code())
    return _joined(inviter, EventType.SECUREJOIN_INVITER_PROGRESS), joiner_chat


def join(joiner: Client, link: str) -> Chat:
    """Open the chat to which an invite link leads; the keys are exchanged by securejoin."""
    joiner.account.secure_join(link)
    return _joined(joiner, EventType.SECUREJOIN_JOINER_PROGRESS)


def _joined(client: Client, kind: EventType) -> Chat:
    event = client.wait_for(
        "the end of securejoin", lambda event: event.kind == kind and event.progress == 1000, SETUP_TIMEOUT_S
    )
    return client.account.get_contact_by_id(event.contact_id).create_chat()


def round_trips(one: Client, one_chat: Chat, two: Client, two_chat: Chat, count: int) -> list[float]:
    """
    Send ``count`` messages one way and an answer to each the other way; check both.

    Returns the seconds of each round trip. Raises ``RelayError`` for what does not arrive as sent, or not encrypted.
    """
    for client, chat in ((one, one_chat), (two, two_chat)):
        if not chat.get_basic_snapshot().is_encrypted:
            raise RelayError(f"{client.name}'s chat is not encrypted", "Did securejoin end with an error above?")
    times = []
    for number in range(count):
        question, answer = f"question {number}: Grüße, 🦊", f"answer {number}: größer als «1»"
        time.sleep(REST_S)
        started = time.monotonic()
        one_chat.send_text(question)
        two.receive(question)
        two_chat.send_text(answer)
        one.receive(answer)
        times.append(time.monotonic() - started)
    return times
