"""Memory for messages, however they arrive."""

import contextlib
from dataclasses import dataclass

SMALL_MESSAGE = 256 * 1024  # octets that a message may take without asking the budget


class Budget:
    """Memory for messages above SMALL_MESSAGE: many slow large ones must not exhaust the host's."""

    def __init__(self, octets: int) -> None:
        self.left = octets

    @contextlib.contextmanager
    def reservation(self):
        """What one message takes, given back at the end of the block."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self.left += reservation.octets


@dataclass
class Reservation:
    """One message's share of a budget."""

    budget: Budget
    octets: int = 0

    def cover(self, size: int) -> bool:
        """Make room for a message of `size` octets; False if there is none."""
        more = size - SMALL_MESSAGE - self.octets
        if more <= 0:
            return True
        if more > self.budget.left:
            return False
        self.budget.left -= more
        self.octets += more
        return True
