"""Longest idle times of users who came back: meanwhile a worker may have forgotten them."""

import numpy as np
from numpy.typing import NDArray


class Absences:
    """Follows the clicks of a partition in their order.

    Attributes
    ----------
    longest_ms : most that a partition's watermark was ahead of a user's last event when the next one came
    """

    def __init__(self) -> None:
        self.longest_ms = 0
        self._watermark_ms = -(1 << 62)
        self._last_ms: dict[int, int] = {}

    def add(self, users: NDArray[np.uint64], times_ms: NDArray[np.int64]) -> None:
        """Take in clicks.

        Parameters
        ----------
        users : (n,) uint64, hashes of their ids; times_ms : (n,) int64, of the events
        """
        if not len(users):
            return
        watermarks = np.maximum.accumulate(np.maximum(times_ms, self._watermark_ms))
        ids, user = np.unique(users, return_inverse=True)
        order = np.argsort(user, kind="stable")
        first = np.diff(user[order], prepend=-1) > 0
        before = np.concatenate(([0], times_ms[order][:-1]))
        known = [self._last_ms.get(one, -1) for one in ids.tolist()]
        before[first] = known
        there = ~first | (before >= 0)
        idle_ms = watermarks[order] - before
        self.longest_ms = max(self.longest_ms, int(idle_ms[there].max(initial=0)))
        last = np.append(np.flatnonzero(first)[1:], len(order)) - 1
        self._last_ms.update(zip(ids.tolist(), times_ms[order][last].tolist(), strict=True))
        self._watermark_ms = int(watermarks[-1])
