"""How fast one sender may send, and one place may create addresses: the generic cell rate algorithm (ITU-T I.371), one
timestamp a sender.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

SENDERS_MAX = 10_000  # that a limiter remembers: 1.4 MB


class RateLimiter:
    """Allows each sender a burst at once, then a steady rate.

    A sender is forgotten when nothing of it counts any more, and the one not seen for longest when there are too
    many. All operations are amortised O(1).
    """

    def __init__(
        self,
        per_minute: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        senders_max: int = SENDERS_MAX,
    ) -> None:
        """Set the limits.

        :param per_minute: messages a minute in the long run.
        :param burst: messages at once after a pause.
        :param clock: gives seconds and never goes back.
        :param senders_max: how many are remembered.
        """
        self._senders_max = senders_max
        self._interval = 60 / per_minute
        self._tolerance = (burst - 1) * self._interval
        self._clock = clock
        # Theoretical arrival time of the sender's next message, in order of last use. A plain dict would walk over
        # the gaps that `_forget` leaves at its front.
        self._arrivals: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._arrivals)

    def __contains__(self, sender: Hashable) -> bool:
        """Whether anything of `sender` still counts."""
        return self._arrivals.get(sender, 0) > self._clock()

    def conforms(self, sender: Hashable) -> bool:
        """Say whether one more message of `sender` would conform; nothing is counted."""
        now = self._clock()
        return now >= self._arrivals.get(sender, now) - self._tolerance

    def allow(self, sender: Hashable) -> bool:
        """Count one message of `sender` and say whether it conforms; one that does not changes nothing."""
        now = self._clock()
        self._forget(now)
        if not self.conforms(sender):
            return False
        self._arrivals[sender] = max(self._arrivals.get(sender, now), now) + self._interval
        self._arrivals.move_to_end(sender)
        if len(self._arrivals) > self._senders_max:
            self._arrivals.popitem(last=False)
        return True

    def _forget(self, now: float) -> None:
        """Drop those at the front whose time has come.

        One behind the front may wait for it, but never longer than a full burst takes to pass.
        """
        while self._arrivals:
            sender = next(iter(self._arrivals))
            if self._arrivals[sender] > now:
                return
            del self._arrivals[sender]


class Place(NamedTuple):
    """Where a client comes from: an IPv4 address or an IPv6 /64, what one customer has at least, and the /24 or /48
    around it."""

    client: str
    network: str


def place_of(client: str) -> Place | None:
    """The place of `client`, an IP address.

    None for a client of this host itself, as there is no telling for whom it stands, and for what is no address.
    """
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return None
    narrow, wide = (32, 24) if address.version == 4 else (64, 48)
    return Place(_network(address, narrow), _network(address, wide))


class SourceLimiter:
    """Allows each client a number of things an hour, and the network around it NETWORK_FACTOR times that.

    It remembers places by hashes of a key that is the process's own, so that they cannot be read from its memory.
    """

    NETWORK_FACTOR = 10

    def __init__(
        self, per_hour: int, clock: Callable[[], float] = time.monotonic, clients_max: int = SENDERS_MAX
    ) -> None:
        """Set the limits.

        :param per_hour: things an hour, at once or spread.
        :param clock: as for RateLimiter.
        :param clients_max: how many clients, and how many networks, are remembered.
        """
        wide = per_hour * self.NETWORK_FACTOR
        self._clients = RateLimiter(per_hour / 60, per_hour, clock, clients_max)
        self._networks = RateLimiter(wide / 60, wide, clock, clients_max)

    def conforms(self, place: Place) -> bool:
        """Say whether one more from `place` would conform; nothing is counted."""
        return self._clients.conforms(hash(place.client)) and self._networks.conforms(hash(place.network))

    def allow(self, place: Place) -> bool:
        """Count one from `place` and say whether it conforms."""
        # In this order, one that is over its own limit does not use up its neighbours'.
        return self._clients.allow(hash(place.client)) and self._networks.allow(hash(place.network))


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int) -> str:
    return str(ipaddress.ip_network((address, prefix), strict=False))
