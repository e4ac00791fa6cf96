"""Memory for messages, however they arrive.

Who finds no room waits for some. Next is who of all that wait holds least, so that nobody can keep others waiting by
asking often; and nobody holds more than half. "Who" is the network that a message comes from.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

SMALL_MESSAGE = 256 * 1024  # octets that a message may take without asking the budget
GROWTH = 64 * 1024  # octets beyond what was declared: a Received field, stuffed dots
WAIT_SECONDS = 60

logger = logging.getLogger(__name__)


class Budget:
    """Memory for messages above SMALL_MESSAGE: many large ones must not exhaust the host's."""

    def __init__(self, octets: int, patience: float = WAIT_SECONDS) -> None:
        """Set the limits.

        :param octets: of all messages that are here at a time, beyond SMALL_MESSAGE of each.
        :param patience: seconds that a message waits at most.
        """
        self.left = octets
        self._patience = patience
        self._share = octets // 2
        self._held: Counter[str] = Counter()
        self._waiting: list[_Turn] = []

    @contextlib.contextmanager
    def reservation(self, network: str = "") -> Iterator["Reservation"]:
        """What one message takes, given back at the end of the block.

        :param network: where it comes from; what is "" has no share that bounds it.
        """
        reservation = Reservation(self, network)
        try:
            yield reservation
        finally:
            self._give(reservation, -reservation.octets)
            self._serve()

    def _give(self, reservation: "Reservation", octets: int) -> None:
        reservation.octets += octets
        self.left -= octets
        self._held[reservation.network] += octets
        if not self._held[reservation.network]:
            del self._held[reservation.network]

    def _has_share(self, turn: "_Turn") -> bool:
        held = self._held[turn.reservation.network]
        return not turn.reservation.network or not held or held + turn.octets <= self._share

    def _serve(self) -> None:
        """Give room to those who wait, in their order; a small message does not overtake a large one."""
        while entitled := list(filter(self._has_share, self._waiting)):
            turn = min(entitled, key=lambda turn: self._held[turn.reservation.network])
            if turn.octets > self.left:
                return
            self._waiting.remove(turn)
            self._give(turn.reservation, turn.octets)
            turn.come.set()

    async def _wait(self, reservation: "Reservation", octets: int) -> bool:
        turn = _Turn(reservation, octets, asyncio.Event())
        self._waiting.append(turn)
        try:
            self._serve()
            async with asyncio.timeout(self._patience):
                await turn.come.wait()
        except TimeoutError:
            logger.info("Refused: a message of %s found no memory", reservation.network or "unknown origin")
            return False
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
                self._serve()
        return True


@dataclass(eq=False)
class Reservation:
    """One message's share of a budget."""

    budget: Budget
    network: str
    octets: int = 0

    async def cover(self, size: int, expected: int = 0) -> bool:
        """Make room for a message of which `size` octets are known; False if there is none.

        The first time, this waits. A message that turns out larger than it was expected to be gets more only if that is
        free: if messages that hold room could wait for more, all of them might wait for each other.

        :param expected: octets that the message may come to have; they are asked for if `size` is not small.
        """
        more = size - SMALL_MESSAGE - self.octets
        if more <= 0:
            return True
        if not self.octets:
            return await self.budget._wait(self, max(size, expected) - SMALL_MESSAGE)
        if more > self.budget.left:
            return False
        self.budget._give(self, more)
        return True


@dataclass(eq=False)
class _Turn:
    """Somebody waits for `octets`."""

    reservation: Reservation
    octets: int
    come: asyncio.Event
