"""The figures of a run: percentiles, the report for machines and the one for people."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Distribution:
    """Percentiles of ``n`` measurements, in milliseconds; by nearest rank, so each is a value that was measured."""

    p50: float
    p95: float
    p99: float
    n: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Distribution":
        """Summarize times in seconds. Raises ``ValueError`` where there are none."""
        return cls(*(round(1000 * percentile(seconds, p), 1) for p in (50, 95, 99)), n=len(seconds))

    def __str__(self) -> str:
        return f"p50 {self.p50:.0f} ms   p95 {self.p95:.0f} ms   p99 {self.p99:.0f} ms   n {self.n}"


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that ``percent`` of the values do not exceed. Raises ``ValueError`` for none."""
    if not values:
        raise ValueError("no measurements, no percentile")
    return sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]


@dataclass(frozen=True)
class Figures:
    """
    What ``build/relay-report.json`` holds.

    ``first_apply_s`` and ``second_apply_s`` are wall time; the first is None where it was not measured,
    because the hosts were deployed, or half of it, before.
    ``delivery_same_ms``, within the relay on Debian 12, ``delivery_same_13_ms``, within that on 13, and
    ``delivery_across_ms`` are from the answer to DATA to the notice of an idle client.
    ``round_trip_ms`` is from a Delta Chat client's call that sends a message to the answer's arrival there.
    """

    first_apply_s: float | None
    second_apply_s: float
    second_apply_changed: int
    delivery_same_ms: Distribution
    delivery_same_13_ms: Distribution
    delivery_across_ms: Distribution
    round_trip_same_ms: Distribution
    round_trip_across_ms: Distribution
    notifications_sent: int
    notifications_lost: int
    messages_ok: bool

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    def rows(self) -> list[tuple[str, str]]:
        """Return the report for people: what, and how much."""
        first = (
            f"{self.first_apply_s:.1f} s" if self.first_apply_s is not None else "not measured: the hosts were not bare"
        )
        return [
            ("First apply, both hosts", first),
            ("Second apply", f"{self.second_apply_s:.1f} s, {self.second_apply_changed} changed"),
            ("Delivery within Debian 12", str(self.delivery_same_ms)),
            ("Delivery within Debian 13", str(self.delivery_same_13_ms)),
            ("Delivery across relays", str(self.delivery_across_ms)),
            ("Chat round trip within", str(self.round_trip_same_ms)),
            ("Chat round trip across", str(self.round_trip_across_ms)),
            ("Notices to idle clients", f"{self.notifications_lost} of {self.notifications_sent} lost"),
            ("Encrypted messages", "all arrived as sent" if self.messages_ok else "NOT all arrived as sent"),
        ]
