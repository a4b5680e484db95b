"""How many slates of one user's hour policies learn from, impressions and rewards together.

What was decided is in each slate's record, which has no features where nothing is learned from it. So
statistics are a function of the records, and what is counted here may be forgotten: a worker that begins
counts anew.
"""

import numpy as np
import xxhash

HOUR_MS = 3_600_000
ROWS, CELLS = 2, 1 << 18
MASK = CELLS - 1


class SlateQuota:
    """Counts slates by user and hour in a count-min sketch of 1 MiB, made empty each hour.

    A user who shares all cells with others may be counted for some of theirs.

    Parameters
    ----------
    per_hour : slates of a user's hour that count, by the time of the request; 0 = all
    """

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._counts = np.zeros((ROWS, CELLS), np.uint16)
        self._since_s = float("-inf")

    def take(self, user_id: str, timestamp_ms: int, *, now_s: float) -> bool:
        """Tell whether a slate that is made now counts.

        Parameters
        ----------
        now_s : of a clock that never goes back
        """
        if not self._per_hour:
            return True
        if now_s - self._since_s >= HOUR_MS / 1000:
            self._counts[:] = 0
            self._since_s = now_s
        hashed = xxhash.xxh3_64_intdigest(user_id.encode(), timestamp_ms // HOUR_MS & (1 << 64) - 1)
        cells = hashed & MASK, hashed >> 32 & MASK
        taken = min(int(self._counts[row, cell]) for row, cell in enumerate(cells))
        if taken >= self._per_hour:
            return False
        for row, cell in enumerate(cells):
            self._counts[row, cell] = max(int(self._counts[row, cell]), taken + 1)
        return True
