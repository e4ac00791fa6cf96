"""A server for Dovecot's dict protocol, version 3 (2.3.17 and later), on a unix stream socket of systemd's.

A connection carries lines: one command letter, parameters separated by TAB, LF. Requests are answered in the order
in which they arrive, also when the client does not wait for answers. Dovecot gives up after 30 s without one, so
everything that expects an answer gets one, ``F`` at worst.
https://doc.dovecot.org/2.3/developer_manual/design/dict_protocol/
"""

import asyncio
import logging
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from .. import connections, service
from ..config import Settings, read_config_or_exit

LINE_MAX = 65536  # bytes, LF not counted; Dovecot's own limit for what a client sends
TRANSACTIONS_MAX = 100  # open ones in one connection; Dovecot has one or two
CHANGES_MAX = 1000  # in one transaction; the services see one or two

ITERATE_NO_VALUE = 0x08

_ESCAPES = {"\0": "\x010", "\x01": "\x011", "\t": "\x01t", "\r": "\x01r", "\n": "\x01n"}
_ESCAPE_TABLE = str.maketrans(_ESCAPES)
_UNESCAPES = {escaped: plain for plain, escaped in _ESCAPES.items()}
_ESCAPED = re.compile("\x01[01trn]")

logger = logging.getLogger(__name__)


def escape(value: str) -> str:
    """Make `value` fit into one parameter of a line."""
    return value.translate(_ESCAPE_TABLE)


def unescape(parameter: str) -> str:
    """Undo `escape`; what is no escape sequence stays as it is."""
    if "\x01" not in parameter:
        return parameter
    return _ESCAPED.sub(lambda match: _UNESCAPES[match[0]], parameter)


class DictError(Exception):
    """A request cannot be served; the text goes to the client and to Dovecot's log, so it names no password."""


class TryLater(DictError):
    """The service is not going to serve the request now; it counts such requests itself, none is logged."""


class Dictionary:
    """What one service answers. This base knows no key: services override what they offer.

    `user` is the login name that Dovecot asks for, empty where it gives none.
    """

    async def __aenter__(self) -> Self:
        """Begin what the service does beside answering; called before the first connection."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it."""

    async def lookup(self, key: str, user: str) -> str | None:
        """Return the value of `key`, None if there is none.

        :raises DictError: the request cannot be served.
        """
        raise DictError("this key cannot be looked up")

    async def iterate(self, path: str, user: str) -> Mapping[str, str]:
        """Return the keys below `path` with their values.

        :raises DictError: the request cannot be served.
        """
        return {}

    async def set(self, key: str, value: str, user: str) -> None:
        """Store `value` under `key`; called when its transaction is committed.

        :raises DictError: the request cannot be served; nothing further of the transaction is done.
        """
        raise DictError("this key cannot be set")

    async def unset(self, key: str, user: str) -> None:
        """Forget the value of `key`; called when its transaction is committed.

        :raises DictError: the request cannot be served; nothing further of the transaction is done.
        """
        raise DictError("this key cannot be unset")


@dataclass
class Transaction:
    """Changes that a client collects until it commits them."""

    user: str
    changes: list[tuple[str, str | None]] = field(default_factory=list)  # key, value (None: unset)
    error: str = ""  # why the commit will fail

    def add(self, key: str, value: str | None) -> None:
        if len(self.changes) < CHANGES_MAX:
            self.changes.append((key, value))
        else:
            self.error = f"a transaction has at most {CHANGES_MAX} changes"


class Connection:
    """One client's requests, and its open transactions: their numbers mean nothing to other connections."""

    def __init__(self, dictionary: Dictionary) -> None:
        self.dictionary = dictionary
        self.transactions: dict[str, Transaction] = {}

    async def answer(self, line: str) -> str:
        """Do what `line` (without its LF) asks; return the answer with its LFs, empty where none is due."""
        command, parameters = line[0], [unescape(parameter) for parameter in line[1:].split("\t")]
        match command:
            case "H":
                return ""  # the client takes an answer to its hello for a protocol error
            case "L":
                return await self._lookup(*_first(parameters, 2))
            case "I":
                return await self._iterate(*_first(parameters, 4))
            case "C" | "D":
                return await self._commit(parameters[0])
            case "B" | "S" | "U" | "A" | "T" | "R":
                self._change(command, *_first(parameters, 3))
                return ""
        logger.warning("ignoring unknown command %a", command)
        return ""

    async def _lookup(self, key: str, user: str) -> str:
        try:
            value = await self.dictionary.lookup(key, user)
        except Exception as error:  # whatever went wrong, the requests behind this one still want their answers
            return f"F{_reason(error)}\n"
        return "N\n" if value is None else f"O{escape(value)}\n"

    async def _iterate(self, flags: str, max_rows: str, path: str, user: str) -> str:
        try:
            rows = await self.dictionary.iterate(path, user)
        except Exception as error:  # as in _lookup
            return f"F{_reason(error)}\n"
        limit = _number(max_rows) or len(rows)
        no_value = _number(flags) & ITERATE_NO_VALUE
        lines = [
            f"O{escape(key)}\t{'' if no_value else escape(value)}\n" for key, value in sorted(rows.items())[:limit]
        ]
        return "".join(lines) + "\n"

    def _change(self, command: str, number: str, key: str, value: str) -> None:
        if command == "B":
            if len(self.transactions) >= TRANSACTIONS_MAX:
                logger.error("ignoring a transaction: %d are open in this connection", TRANSACTIONS_MAX)
            else:
                self.transactions[number] = Transaction(user=key)
            return
        transaction = self.transactions.get(number)
        if transaction is None:
            logger.error("ignoring command %s: there is no transaction %a", command, number[:20])
        elif command == "R":
            del self.transactions[number]
        elif command == "S":
            transaction.add(key, value)
        elif command == "U":
            transaction.add(key, None)
        elif command == "A":
            transaction.error = "values cannot be incremented"
        # T says when the changes were made, for dictionaries that keep times

    async def _commit(self, number: str) -> str:
        transaction = self.transactions.pop(number, None)
        if transaction is None:
            logger.error("there is no transaction %a to commit", number[:20])
            return "F\tthere is no such transaction\n"
        try:
            if transaction.error:
                raise DictError(transaction.error)
            for key, value in transaction.changes:
                if value is None:
                    await self.dictionary.unset(key, transaction.user)
                else:
                    await self.dictionary.set(key, value, transaction.user)
        except Exception as error:  # as in _lookup
            return f"F\t{_reason(error)}\n"
        return "O\n"


def _first(parameters: list[str], count: int) -> list[str]:
    """The first `count` parameters; those that the client left out are empty."""
    return (parameters + [""] * count)[:count]


def _number(text: str) -> int:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0


def _reason(error: Exception) -> str:
    """What the client is told of `error`; a fault that no service expected is logged with its traceback."""
    if isinstance(error, DictError):
        if not isinstance(error, TryLater):
            logger.error("refused a request: %s", error)
        return escape(str(error))
    logger.error("a request failed", exc_info=error)
    return "internal error, see the log of the service"


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """The next line without its LF; empty for an empty line, at the end of the stream, and if there is no end to it."""
    try:
        return (await reader.readline()).rstrip(b"\n")
    except ValueError:
        logger.error("closing a connection: a line is longer than %d bytes", LINE_MAX)
        return b""


async def _serve_connection(dictionary: Dictionary, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = Connection(dictionary)
    try:
        while line := await _read_line(reader):
            # Bytes that are not UTF-8 survive as lone surrogates (PEP 383).
            answer = await connection.answer(line.decode(errors="surrogateescape"))
            if answer:
                writer.write(answer.encode(errors="surrogateescape"))
                await writer.drain()
    except ConnectionError as error:
        logger.info("a client is gone: %s", error)
    finally:
        writer.close()


async def serve(dictionary: Dictionary, listener: socket.socket) -> None:
    """Serve `dictionary` on the unix socket `listener` until SIGTERM or SIGINT; tell systemd when it does.

    What has been asked until then is answered. Dovecot asks once more where a lookup was not, but not where a
    transaction was not committed.
    """
    async with dictionary:
        await connections.serve(
            lambda reader, writer: _serve_connection(dictionary, reader, writer), listener, request_max=LINE_MAX
        )


def run(description: str, kind: type[Settings], make_dictionary: Callable[[Settings], Dictionary]) -> None:
    """The command line of a service, ``NAME CONFIG``: serve until a signal ends it; see `service.run`.

    :param description: what ``--help`` says about the service.
    :param kind: the settings that it reads, see `read_config`.
    """
    config = read_config_or_exit(service.parser(description, config=True).parse_args().config, kind)
    service.run(lambda listener: serve(make_dictionary(config), listener))
