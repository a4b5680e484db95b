"""Limits the slates of one user's hour that policies learn from, impressions and rewards together.

What was decided is in each slate's record, which has no features where nothing is learned from it. So
statistics are a function of the records, and what is counted here may be forgotten: a worker that begins
counts anew.
"""

import numpy as np
import xxhash

HOUR_MS = 3_600_000
HOUR_S = HOUR_MS / 1000
ROWS, CELLS = 2, 1 << 18
MASK = CELLS - 1


class SlateQuota:
    """Counts slates by user and hour in two count-min sketches of 1 MiB each.

    One is of this hour of the clock, one of the hour before. So what is counted is known for an hour at
    least, whenever the sketches change. A user who shares all cells with others may be counted for some of
    theirs.

    Parameters
    ----------
    per_hour : slates of a user's hour that count, by the time of the request; 0 = all
    """

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._counts = np.zeros((ROWS, CELLS), np.uint16)
        self._before = np.zeros_like(self._counts)
        self._since_s = float("-inf")

    def take(self, user_id: str, timestamp_ms: int, *, now_s: float) -> bool:
        """Tell whether a slate that is made now counts.

        Parameters
        ----------
        now_s : of a clock that never goes back
        """
        if not self._per_hour:
            return True
        if now_s - self._since_s >= HOUR_S:
            self._next_hour(now_s)
        hashed = xxhash.xxh3_64_intdigest(user_id.encode(), timestamp_ms // HOUR_MS & (1 << 64) - 1)
        cells = hashed & MASK, hashed >> 32 & MASK
        each = [int(self._counts[at]) + int(self._before[at]) for at in enumerate(cells)]
        taken = min(each)
        if taken >= self._per_hour:
            return False
        for at, counted in zip(enumerate(cells), each, strict=True):
            self._counts[at] += max(taken + 1 - counted, 0)
        return True

    def _next_hour(self, now_s: float) -> None:
        if now_s - self._since_s >= 2 * HOUR_S:
            self._counts[:] = 0
        self._before, self._counts = self._counts, self._before
        self._counts[:] = 0
        self._since_s = now_s
