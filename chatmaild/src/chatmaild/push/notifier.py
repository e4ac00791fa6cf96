"""Tells the push server of new messages; what could not be told is tried again, also after a restart.

Each notification is a file in ``pending_notifications`` beside the mailboxes, from before Dovecot hears of it until the
push server has taken it or it is given up: three lines, address, time of the message in Unix seconds, device token.
"""

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .. import files
from .client import IDLE_MAX, PushClient, PushError
from .device_tokens import TOKEN_MAX, DeviceTokens, to_bytes

DEADLINE = 5 * 3600  # seconds after the message; then a notification is of no use any more
RETRY_BASE = 8  # try n (from 0) begins this to the power of n seconds after the one before it failed
TRIES = 5  # the next would be after the deadline
# At once; a first try never waits for a later one. Each holds a TLS connection, which takes 50 KB.
CONCURRENT_TRIES = (300, 25, 25, 25, 25)
PENDING_MAX = 50_000  # bounds the memory when the push server is away for long
FILE_MAX = TOKEN_MAX + 1024  # bytes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notification:
    """What a queue file holds."""

    address: str
    start: int  # Unix seconds
    token: str

    def write(self, directory: Path) -> Path:
        """Put it into a new file, which is complete as soon as it has its name; return its path.

        :raises OSError: the file system refused; nothing is left behind.
        """
        path = directory / uuid.uuid4().hex
        files.replace(path, to_bytes(f"{self.address}\n{self.start}\n{self.token}"))
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` has written.

        :raises ValueError: the file holds something else.
        :raises OSError: it cannot be read.
        """
        with path.open("rb") as file:
            content = file.read(FILE_MAX + 1)
        parts = content.decode(errors="surrogateescape").split("\n", 2)
        if len(content) > FILE_MAX or len(parts) != 3 or not parts[0] or not parts[2]:
            raise ValueError("no address, time and token")
        # Earlier relays wrote fractions of seconds.
        if not re.fullmatch(r"[0-9]{1,11}(\.[0-9]+)?", parts[1]):
            raise ValueError("no time")
        return cls(parts[0], int(float(parts[1])), parts[2])


class Notifier:
    """The queue, a level for each number of failed tries, and the pushes that are under way."""

    def __init__(
        self,
        directory: Path,
        client: PushClient,
        tokens_of: Callable[[str], DeviceTokens],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use the queue in `directory`, which is made at the start.

        :param client: posts a token; only its `post`, `close_idle` and `close` are used.
        :param tokens_of: gives the tokens of an address; one that the push server does not know any more is removed.
        :param clock: Unix seconds.
        """
        self.directory = directory
        self.client = client
        self.tokens_of = tokens_of
        self.clock = clock
        # Each level's entries wait equally long, so they are due in the order in which they came.
        self.levels: list[asyncio.Queue[tuple[float, str]]] = [asyncio.Queue() for _ in range(TRIES)]
        self.pending = 0  # entries in all levels, and under way
        self._tasks: set[asyncio.Task] = set()
        # Of its own: asyncio's default threads resolve names, and are all taken when no name server answers.
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="disk")

    async def __aenter__(self) -> Self:
        """Queue again what an earlier process left, and begin to push.

        :raises OSError: the directory cannot be made or read.
        """
        self._enqueue(await self._on_disk(lambda: list(left_behind(self.directory))))
        for level in range(TRIES):
            self._begin(self._serve_level(level))
        self._begin(self._close_idle_connections())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all pushes; their files stay for the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.client.close()
        self._threads.shutdown()

    async def new_message(self, address: str) -> None:
        """Queue a notification for each device of `address`; they survive the end of this process from here on.

        :raises OSError: the file system refused.
        :raises BufferError: too many are pending; the message is announced when the device looks for itself.
        """
        if self.pending >= PENDING_MAX:
            raise BufferError(f"{PENDING_MAX} notifications are pending; is the push server reachable?")

        def store() -> list[str]:
            start = int(self.clock())
            tokens = self.tokens_of(address).read()
            return [Notification(address, start, token).write(self.directory).name for token in tokens]

        self._enqueue(await self._on_disk(store))

    def _enqueue(self, names: Iterable[str]) -> None:
        for name in names:
            self.pending += 1
            self.levels[0].put_nowait((self.clock(), name))

    async def _serve_level(self, level: int) -> None:
        """Begin the tries of one level when they are due, so many at once as it may have."""
        slots = asyncio.Semaphore(CONCURRENT_TRIES[level])
        while True:
            due, name = await self.levels[level].get()
            if level > 0:
                await asyncio.sleep(max(0.0, due - self.clock()))
            await slots.acquire()
            self._begin(self._try(level, name)).add_done_callback(lambda _: slots.release())

    async def _try(self, level: int, name: str) -> None:
        path = self.directory / name
        try:
            notification = Notification.read(path)
            if await self._push(notification, level):
                self._forget(path)
                return
        except FileNotFoundError:  # somebody emptied the queue by hand
            self.pending -= 1
            return
        except (OSError, ValueError) as error:
            logger.error("%s cannot be read and is left for the next start: %s", path, error)
            self.pending -= 1
            return
        due = self.clock() + RETRY_BASE ** (level + 1)
        if level + 1 == TRIES or due > notification.start + DEADLINE:
            logger.error("gave up a notification at its deadline, after %d tries", level + 1)
            self._forget(path)
        else:
            self.levels[level + 1].put_nowait((due, name))

    async def _push(self, notification: Notification, level: int) -> bool:
        """Try once; whether the notification is done with. Neither address nor token is logged."""
        try:
            status = await self.client.post(to_bytes(notification.token))
            if status == 410:  # the device is gone
                await self._on_disk(lambda: self.tokens_of(notification.address).remove(notification.token))
            if status in (200, 410):
                return True
            reason = f"status {status}"
        except (OSError, PushError, ValueError) as error:
            reason = str(error) or type(error).__name__
        except Exception:
            # Whatever it was, the notification is not lost and its place in the level not kept.
            logger.exception("request failed (try %d)", level + 1)
            return False
        logger.warning("request failed (try %d): %s", level + 1, reason)
        return False

    def _forget(self, path: Path) -> None:
        """At once and not in a thread: a push that has succeeded must not be made again."""
        self.pending -= 1
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.error("cannot remove a notification that is done: %s", error)

    async def _close_idle_connections(self) -> None:
        while True:
            await asyncio.sleep(IDLE_MAX)
            self.client.close_idle()

    def _begin(self, work) -> asyncio.Task:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _on_disk(self, work: Callable):
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def left_behind(directory: Path) -> Iterator[str]:
    """The names of the notifications in `directory`, which is made if need be; what is none is deleted.

    :raises OSError: the file system refused.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    for path in directory.iterdir():
        try:
            if files.UNFINISHED in path.name:
                raise ValueError("its writing did not end")
            if not path.is_file():
                raise ValueError("no file")
            Notification.read(path)
        except ValueError as error:
            logger.warning("deleting the spurious file %s: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
        except OSError as error:
            logger.error("%s is left for the next start: %s", path, error)
        else:
            yield path.name
