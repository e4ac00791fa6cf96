"""How fast one sender may send, and one place may create addresses: the generic cell rate algorithm (ITU-T I.371), one
timestamp a sender.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable


class RateLimiter:
    """Allows each sender a burst at once, then a steady rate.

    A sender is forgotten when nothing of it counts any more, so that memory is bounded by the senders of the last
    `burst` intervals. All operations are amortised O(1).
    """

    def __init__(self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Set the limits.

        :param per_minute: messages a minute in the long run.
        :param burst: messages at once after a pause.
        :param clock: gives seconds and never goes back.
        """
        self._interval = 60 / per_minute
        self._tolerance = (burst - 1) * self._interval
        self._clock = clock
        # Theoretical arrival time of the sender's next message, in order of last use. A plain dict would walk over
        # the gaps that `_forget` leaves at its front.
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._arrivals)

    def allow(self, sender: str) -> bool:
        """Count one message of `sender` and say whether it conforms; one that does not changes nothing."""
        now = self._clock()
        self._forget(now)
        arrival = self._arrivals.get(sender, now)
        if now < arrival - self._tolerance:
            return False
        self._arrivals[sender] = max(arrival, now) + self._interval
        self._arrivals.move_to_end(sender)
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


class SourceLimiter:
    """Allows each client a number of new addresses an hour, and the network around it NETWORK_FACTOR times that.

    A client is an IPv4 address or an IPv6 /64, which is what one customer has at least; the network is a /24 or a /48.
    Clients of this host itself are not limited: there is no telling whom they stand for.
    """

    NETWORK_FACTOR = 10

    def __init__(self, per_hour: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Set the limits.

        :param per_hour: new addresses, at once or spread.
        :param clock: as for RateLimiter.
        """
        wide = per_hour * self.NETWORK_FACTOR
        self._clients = RateLimiter(per_hour / 60, per_hour, clock)
        self._networks = RateLimiter(wide / 60, wide, clock)

    def allow(self, client: str) -> bool:
        """Count one new address of `client`, an IP address, and say whether it conforms; what is no address does."""
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return True
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_loopback:
            return True
        narrow, wide = (32, 24) if address.version == 4 else (64, 48)
        # In this order, one that is over its own limit does not use up its neighbours'.
        return self._clients.allow(_network(address, narrow)) and self._networks.allow(_network(address, wide))


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int) -> str:
    return str(ipaddress.ip_network((address, prefix), strict=False))
