"""Latencies of an open loop, counted from when a request was due.

A client that sends the next request only after an answer leaves out the very requests that would have
waited: coordinated omission (Tene, "How NOT to measure latency"). Here requests are due at a constant rate
whatever the answers do, and a request that is sent late has been waiting since it was due.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hdrh.histogram import HdrHistogram

LOWEST_US, HIGHEST_US, DIGITS = 1, 600_000_000, 3
PERCENTILES = {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "p99_9_ms": 99.9}


def due(number: int, rate: float) -> float:
    """Seconds after the start at which request `number`, from 0, is due."""
    return number / rate


class Latencies:
    """A histogram of seconds, exact to three digits, from a microsecond to ten minutes."""

    def __init__(self, encoded: str | None = None) -> None:
        self._histogram: Any = (
            HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS) if encoded is None else HdrHistogram.decode(encoded)
        )

    def add(self, seconds: float) -> None:
        """Count one latency; what lies outside the range counts as its edge."""
        self._histogram.record_value(min(HIGHEST_US, max(LOWEST_US, round(seconds * 1e6))))

    def add_all(self, encoded: str | None) -> None:
        """Count what another histogram has counted; nothing for None."""
        if encoded is not None:
            self._histogram.decode_and_add(encoded)

    @property
    def count(self) -> int:
        """Number of values added."""
        return int(self._histogram.get_total_count())

    def encoded(self) -> str:
        """Return text that makes the same histogram again."""
        return str(self._histogram.encode().decode())

    def at(self, percentile: float) -> float:
        """Milliseconds that so many per cent of the requests took at most; 0 when there are none."""
        return float(self._histogram.get_value_at_percentile(percentile) / 1000) if self.count else 0.0

    def summary(self) -> dict[str, float]:
        """p50, p95, p99, p99.9 and the longest, in milliseconds."""
        found = {name: self.at(percentile) for name, percentile in PERCENTILES.items()}
        return found | {"max_ms": self.at(100.0)}


@dataclass(frozen=True, slots=True)
class Limit:
    """The highest rate that kept a promise, and the lowest that broke it; None where none was found."""

    kept: float | None
    broken: float | None


def find_limit(keeps: Callable[[float], bool], *, start: float, steps: int, highest: float) -> Limit:
    """Search for the rate up to which a promise is kept: by doubling or halving, then by bisection.

    Parameters
    ----------
    keeps
        Measures one rate and says whether the promise was kept.
    steps
        Bisections once the limit lies between two rates a factor of 2 apart.
    highest
        Where doubling ends.
    """
    kept: float | None = None
    broken: float | None = None
    rate = start
    while (kept is None or broken is None) and 1.0 <= rate <= highest:
        if keeps(rate):
            kept = rate
            rate = rate * 2
        else:
            broken = rate
            rate = rate / 2
    if kept is None or broken is None:
        return Limit(kept, broken)
    for _ in range(steps):
        middle = (kept * broken) ** 0.5
        if keeps(middle):
            kept = middle
        else:
            broken = middle
    return Limit(kept, broken)
