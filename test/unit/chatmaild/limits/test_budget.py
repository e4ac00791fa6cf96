"""Who gets memory for a large message, and when."""

import asyncio
import contextlib

import pytest

from chatmaild.limits.budget import SMALL_MESSAGE, Budget

MB = 1_000_000


class Asking:
    """A message that asks a budget for room, and keeps it until it is `done`."""

    def __init__(self, of: Budget, octets: int, network: str = "", expected: int = 0) -> None:
        self._stack = contextlib.ExitStack()
        self.reservation = self._stack.enter_context(of.reservation(network))
        size = SMALL_MESSAGE + octets
        self._task = asyncio.ensure_future(self.reservation.cover(size, expected and SMALL_MESSAGE + expected))

    async def has_room(self) -> bool:
        """Whether there is room by now."""
        for _ in range(5):
            await asyncio.sleep(0)
        return self._task.done() and self._task.result()

    async def refused(self) -> bool:
        return not await self._task

    def done(self) -> None:
        self._stack.close()

    def gone(self) -> None:
        """The client hangs up."""
        self._task.cancel()
        self._stack.close()


def test_small_messages_never_wait():
    async def scenario():
        full = Budget(0)
        with full.reservation() as reservation:
            assert await reservation.cover(SMALL_MESSAGE)

    asyncio.run(scenario())


def test_who_finds_no_room_gets_it_when_others_are_done():
    async def scenario():
        shared = Budget(4 * MB)
        first, second = Asking(shared, 3 * MB), Asking(shared, 3 * MB)
        assert await first.has_room() and not await second.has_room()
        first.done()
        assert await second.has_room()
        second.done()
        assert shared.left == 4 * MB

    asyncio.run(scenario())


def test_what_is_small_does_not_keep_a_large_message_waiting_for_ever():
    async def scenario():
        shared = Budget(4 * MB)
        first, large, small = Asking(shared, 3 * MB), Asking(shared, 4 * MB), Asking(shared, MB)
        assert await first.has_room() and not await large.has_room() and not await small.has_room()
        first.done()
        assert await large.has_room() and not await small.has_room()
        large.done()
        assert await small.has_room()

    asyncio.run(scenario())


def test_a_network_that_asks_often_keeps_nobody_else_waiting():
    async def scenario():
        shared = Budget(4 * MB)
        flood = [Asking(shared, MB, "192.0.2.0/24") for _ in range(50)]
        other = Asking(shared, 2 * MB, "198.51.100.0/24")
        assert await other.has_room()
        assert [await one.has_room() for one in flood].count(True) == 2
        third = Asking(shared, MB, "203.0.113.0/24")
        assert not await third.has_room()
        flood[0].done()
        assert await third.has_room()
        assert not await flood[2].has_room()

    asyncio.run(scenario())


def test_a_network_may_have_one_message_whatever_its_size():
    async def scenario():
        shared = Budget(4 * MB)
        large = Asking(shared, 3 * MB, "192.0.2.0/24")
        assert await large.has_room()

    asyncio.run(scenario())


def test_a_client_that_hangs_up_leaves_no_gap():
    async def scenario():
        shared = Budget(4 * MB)
        first, impatient, next_one = Asking(shared, 3 * MB), Asking(shared, 4 * MB), Asking(shared, MB)
        assert not await next_one.has_room()
        impatient.gone()
        assert await first.has_room() and await next_one.has_room()
        first.done()
        next_one.done()
        assert shared.left == 4 * MB

    asyncio.run(scenario())


def test_nobody_waits_longer_than_the_other_side_does():
    async def scenario():
        shared = Budget(MB, patience=0.01)
        first = Asking(shared, MB)
        assert await first.has_room()
        assert await Asking(shared, MB).refused()

    asyncio.run(scenario())


def test_a_message_larger_than_announced_takes_what_is_free_and_does_not_wait():
    async def scenario():
        shared = Budget(4 * MB)
        liar = Asking(shared, MB)
        assert await liar.has_room()
        assert await liar.reservation.cover(SMALL_MESSAGE + 3 * MB)
        assert not await liar.reservation.cover(SMALL_MESSAGE + 5 * MB)
        assert shared.left == MB

    asyncio.run(scenario())


@pytest.mark.parametrize("expected", [0, 3 * MB])
def test_a_message_of_unknown_size_asks_for_all_that_it_may_need(expected):
    async def scenario():
        shared = Budget(4 * MB)
        unknown = Asking(shared, 1, expected=expected)
        assert await unknown.has_room()
        assert shared.left == 4 * MB - max(1, expected)

    asyncio.run(scenario())
