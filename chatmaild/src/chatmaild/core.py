"""Delta Chat's core, for the relay's own bots: what a client does, it does here too.

It is a process of its own, deltachat-rpc-server, which is asked by JSON-RPC 2.0, a line for each request and each
answer. https://github.com/chatmail/core/tree/main/deltachat-rpc-server
"""

import contextlib
import json
import os
import secrets
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from . import files
from .mailboxes import password_hash

PROGRAM = "deltachat-rpc-server"
# Both servers are on this host, so there is nobody to hide a connection from, nor a name to check.
SERVER = "127.0.0.1"

SETTINGS = {
    "bot": "1",
    # Bytes; larger messages stay on the server without an answer, until they expire: the core takes ten times as much
    # memory for a moment.
    "download_limit": "5000000",
    # Who reads for nobody sends no receipts and has nothing to say by other ways.
    "mdns_enabled": "0",
    "webxdc_realtime_enabled": "0",
}


class CoreError(Exception):
    """The core cannot do what it was asked; the text says why."""


class CoreGone(Exception):
    """The core has ended."""


class Core:
    """Delta Chat's core. Threads may ask it side by side; events wait in it until they are asked for."""

    def __init__(self, program: str, accounts: Path) -> None:
        self._process = subprocess.Popen(
            [program],
            env=os.environ | {"DC_ACCOUNTS_PATH": str(accounts)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._lock = threading.Lock()
        self._calls = 0
        self._waiting: dict[int, Future] = {}
        self._is_gone = False
        threading.Thread(target=self._read, daemon=True).start()

    def call(self, method: str, *arguments: Any) -> Any:
        """Return what the core answers.

        :raises CoreError: it answers with an error.
        :raises CoreGone: it has ended.
        """
        answered: Future = Future()
        with self._lock:
            if self._is_gone:
                raise CoreGone(f"{PROGRAM} has ended")
            self._calls += 1
            self._waiting[self._calls] = answered
            request = {"jsonrpc": "2.0", "id": self._calls, "method": method, "params": arguments}
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
        answer = answered.result()
        if "error" in answer:
            raise CoreError(f"{method}: {answer['error'].get('message')}")
        return answer.get("result")

    def _read(self) -> None:
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._lock:
                answered = self._waiting.pop(answer.get("id"), None)
            if answered:
                answered.set_result(answer)
        with self._lock:
            self._is_gone = True
            for answered in self._waiting.values():
                answered.set_exception(CoreGone(f"{PROGRAM} has ended"))

    def events(self) -> Iterator[dict]:
        """Each event of the core, until it ends.

        :raises CoreGone: it has ended.
        """
        while True:
            for event in self.call("get_next_event_batch"):
                yield event["event"]


class Account:
    """The one account of a bot, at this relay."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._number = (core.call("get_all_account_ids") or [core.call("add_account")])[0]

    def call(self, method: str, *arguments: Any) -> Any:
        """What the core answers to a question about this account; raises as `Core.call` does."""
        return self._core.call(method, self._number, *arguments)

    def log_in(self, address: str, password_path: Path, settings: Mapping[str, str]) -> None:
        """Log in, by a password that is made again at each start and kept by the core alone.

        :param password_path: where doveauth finds its hash.
        :param settings: the core's own, beside `SETTINGS`.
        :raises CoreError: Dovecot or Postfix does not let it in.
        :raises OSError: the hash cannot be written.
        """
        password = secrets.token_urlsafe(24)
        publish_hash(password_path, password)
        server = {"addr": address, "password": password, "certificateChecks": "acceptInvalidCertificates"}
        for protocol, port in (("imap", 993), ("smtp", 465)):
            server |= {f"{protocol}Server": SERVER, f"{protocol}Port": port, f"{protocol}Security": "ssl"}
        self.call("batch_set_config", {**SETTINGS, **settings})
        self.call("add_or_update_transport", server)
        self.call("start_io")

    def invite_link(self) -> str:
        """The link by which a client begins a chat: without it there is no key to encrypt to."""
        return self.call("get_chat_securejoin_qr_code", None)


def publish_hash(path: Path, password: str) -> None:
    """Let doveauth know the password's hash; its directory decides whose group may read it.

    :raises OSError: the file system refused.
    """
    hashed = "{SHA512-CRYPT}" + password_hash.sha512_crypt(password.encode(), password_hash.make_salt())
    files.replace(path, hashed.encode("ascii"), 0o640)
