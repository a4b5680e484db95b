"""Token buckets: how often somebody may ask, in bounded memory."""

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_BUCKETS = 50_000
"""Callers remembered, about 200 bytes each; beyond, who has not asked for longest begins anew."""


class Buckets:
    """A bucket for each caller: `burst` requests at once, and `per_s` a second in the long run.

    Parameters
    ----------
    now : seconds that never go back
    """

    def __init__(
        self, per_s: float, burst: int, *, most: int = MAX_BUCKETS, now: Callable[[], float] = time.monotonic
    ) -> None:
        for name, value in (("per_s", per_s), ("burst", burst), ("most", most)):
            if value <= 0:
                raise ValueError(f"{name} must be more than 0, got {value}")
        self._per_s = per_s
        self._burst = burst
        self._most = most
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is in, and since when

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, caller: str) -> float:
        """Take one request out; return 0.0, or the seconds until there is one when there is none."""
        now = self._now()
        level, since = self._buckets.pop(caller, (float(self._burst), now))
        level = min(float(self._burst), level + (now - since) * self._per_s)
        missing = max(0.0, 1.0 - level)
        self._buckets[caller] = (level if missing else level - 1.0, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return missing / self._per_s
