"""Whose passwords are looked at: a limit for guesses that never keeps an owner out where the owner has been before.

Tries with a wrong password count, in three ways. A network has few for one address, so that one place alone cannot use
up what all strangers have for it together; a place has a number of addresses, as lists of stolen passwords go through
many with one try each. Where somebody has logged in to an address nothing is limited for that address.

All of it is in memory alone, bounded, and under hashes whose key each process makes for itself (Python's own of text):
neither addresses nor places can be read from it.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from .rate_limit import Place, RateLimiter, SourceLimiter

# Wrong passwords for one address from one network: at once, and then each minute.
NETWORK_BURST = 10
NETWORK_PER_MINUTE = 1 / 10
# The same from everywhere: more than five networks are needed to use it up for good.
ADDRESS_BURST = 50
ADDRESS_PER_MINUTE = 1 / 2
# Addresses for which one client, an IPv4 address or a /64, has had a wrong password within an hour.
ADDRESSES_PER_HOUR = 60
KNOWN_MAX = 10_000  # addresses with a place of theirs: 1 MB
COUNTED_MAX = 5_000  # of what each limit counts: 3 MB together
REPORT_S = 60  # seconds between two lines in the log

logger = logging.getLogger(__name__)


class GuessLimiter:
    """Says whose passwords are looked at; is told what came of it. All operations take constant time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """:param clock: gives seconds and never goes back."""
        self._networks = RateLimiter(NETWORK_PER_MINUTE, NETWORK_BURST, clock, COUNTED_MAX)
        self._addresses = RateLimiter(ADDRESS_PER_MINUTE, ADDRESS_BURST, clock, COUNTED_MAX)
        self._sources = SourceLimiter(ADDRESSES_PER_HOUR, clock, COUNTED_MAX)
        self._known: OrderedDict[int, None] = OrderedDict()  # in order of last use

    def __len__(self) -> int:
        return len(self._known) + len(self._networks) + len(self._addresses)

    def knows(self, address: str, place: Place) -> bool:
        """Whether somebody has logged in to `address` from there, as far as it is remembered."""
        key = hash((address, place.client))
        if key not in self._known:
            return False
        self._known.move_to_end(key)
        return True

    def refusal(self, address: str, place: Place) -> str | None:
        """Why no password for `address` from `place` is looked at now; None if one is."""
        if not self._networks.conforms(hash((address, place.network))):
            return "for one address from one network"
        if not self._addresses.conforms(hash(address)):
            return "for one address from many networks"
        if not self._sources.conforms(place):
            return "for many addresses from one place"
        return None

    def succeeded(self, address: str, place: Place) -> None:
        """The password was right."""
        self._known[hash((address, place.client))] = None
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def failed(self, address: str, place: Place) -> None:
        """The password was wrong."""
        pair = hash((address, place.network))
        if pair not in self._networks:
            self._sources.allow(place)
        self._networks.allow(pair)
        self._addresses.allow(hash(address))


class RefusalLog:
    """Logs how many passwords were not looked at, a line a minute at most, without addresses and places."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, refusal: str) -> None:
        """Count one refusal, in the words of `GuessLimiter.refusal`; needs a running event loop."""
        if not self._counts:
            asyncio.get_running_loop().call_later(REPORT_S, self.report)
        self._counts[refusal] += 1

    def report(self) -> None:
        """Log what was counted, and begin again."""
        if self._counts:
            by_limit = ", ".join(f"{count} {refusal}" for refusal, count in self._counts.most_common())
            logger.warning("passwords not looked at: %d (%s)", self._counts.total(), by_limit)
        self._counts.clear()
