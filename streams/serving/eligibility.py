"""Eligible items: one bitmap for all requests of a moment, changed in place."""

import heapq
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from streams.state.catalogue import Catalogue
from streams.state.item_columns import FOR_EVER, grown

LONG_AGO = np.iinfo(np.int64).min


class Eligibility:
    """The items that are described, available, published, not expired and encoded, as of the last `advance`.

    A change of an item or the passing of one of its times costs one bit. The bitmap says the same for every
    time in [`since_ms`, `until_ms`): between the last time of an item that has passed and the next one. For
    a request of another time `at` looks at the items themselves.

    The event loop writes; other threads may read, and see an item that changes at this moment as it was or
    as it will be.
    """

    def __init__(self, catalogue: Catalogue, *, now_ms: int) -> None:
        self._catalogue = catalogue
        self._now_ms = now_ms
        self._bits = np.zeros(1024, np.bool_)
        self._encoded = np.zeros(1024, np.bool_)
        self._scheduled = np.full(1024, FOR_EVER, np.int64)  # the earliest time of each row in the heap
        self._times: list[tuple[int, int]] = []
        self.since_ms = LONG_AGO

    @property
    def until_ms(self) -> int:
        """Time in ms at which the next item is published or expires."""
        return self._times[0][0] if self._times else FOR_EVER

    @property
    def n_encoded(self) -> int:
        """Rows that have a vector."""
        return int(np.count_nonzero(self._encoded))

    @property
    def bits(self) -> NDArray[np.bool_]:
        """(capacity,) bool, which rows may be served; it goes on changing, and is replaced when it grows."""
        return self._bits

    def is_encoded(self, row: int) -> bool:
        """Tell whether a row has a vector."""
        return 0 <= row < len(self._encoded) and bool(self._encoded[row])

    def described(self, n: int) -> NDArray[np.bool_]:
        """Return which of the first n rows are described and have a vector: (n,) bool. O(n), any thread."""
        known, encoded = self._catalogue.windows.known[:n], self._encoded[:n]
        out, both = np.zeros(n, np.bool_), min(len(known), len(encoded))
        np.logical_and(known[:both], encoded[:both], out=out[:both])
        return out

    def holds(self, time_ms: int) -> bool:
        """Tell whether the bitmap is right for a request of this time."""
        return self.since_ms <= time_ms < self.until_ms

    def open(self, rows: NDArray[np.int64], time_ms: int) -> NDArray[np.bool_]:
        """Tell which of some rows may be served at any time: (n,) bool. O(len(rows))."""
        windows = self._catalogue.windows
        inside = (rows < len(windows.known)) & (rows < len(self._encoded))
        out = np.zeros(len(rows), np.bool_)
        out[inside] = windows.open(time_ms, rows[inside]) & self._encoded[rows[inside]]
        return out

    def at(self, time_ms: int, n: int) -> NDArray[np.bool_]:
        """Return which of the first n rows may be served at any time: (n,) bool. O(n), for any thread."""
        out = np.zeros(n, np.bool_)
        self._catalogue.eligible(time_ms, out)
        encoded = self._encoded[:n]
        out[: len(encoded)] &= encoded
        out[len(encoded) :] = False
        return out

    def changed(self, rows: NDArray[np.int32]) -> None:
        """Look again at items that have changed."""
        if len(rows):
            self._reserve(int(rows.max()) + 1)
            self._look(rows)

    def mark_encoded(self, rows: NDArray[np.int64]) -> None:
        """Let rows be served whose vectors are in place."""
        if len(rows):
            self._reserve(int(rows.max()) + 1)
            self._encoded[rows] = True
            self._look(rows)

    def encode_all(self) -> None:
        """Let exactly what is described have a vector: those of another release serve from now on. O(n)."""
        known = self._catalogue.windows.known
        self._reserve(len(known))
        fresh = np.flatnonzero(known & ~self._encoded[: len(known)])
        self._encoded[:] = False
        self._encoded[: len(known)] = known
        self._look(fresh)

    def forget(self, rows: NDArray[np.int32]) -> None:
        """Let rows have no vectors any more: other items will have them."""
        inside = rows[rows < len(self._encoded)]
        self._bits[inside] = self._encoded[inside] = False

    def advance(self, now_ms: int) -> None:
        """Let time go on to `now_ms`; a clock that goes back is waited for."""
        if now_ms <= self._now_ms:
            return
        self._now_ms = now_ms
        due: dict[int, None] = {}
        while self._times and self._times[0][0] <= now_ms:
            time_ms, row = heapq.heappop(self._times)
            self.since_ms = max(self.since_ms, time_ms)
            if self._scheduled[row] == time_ms:
                self._scheduled[row] = FOR_EVER
            due[row] = None
        if due:
            self._look(np.fromiter(due, np.int64, len(due)))

    def _look(self, rows: NDArray[np.int64] | NDArray[np.int32]) -> None:
        windows, now = self._catalogue.windows, self._now_ms
        rows = rows[rows < len(windows.known)]
        self._bits[rows] = windows.open(now, rows) & self._encoded[rows]
        used = rows[windows.known[rows]]
        for times in (windows.published[used], windows.expires[used]):
            passed = times[times <= now]
            if len(passed):
                self.since_ms = max(self.since_ms, int(passed.max()))
            self._schedule(used, times)

    def _schedule(self, rows: NDArray[np.int64] | NDArray[np.int32], times: NDArray[np.int64]) -> None:
        """Remember the times that are to come; a row needs its earliest one only."""
        sooner = (times > self._now_ms) & (times < self._scheduled[rows])
        pairs: Iterable[tuple[int, int]] = zip(times[sooner].tolist(), rows[sooner].tolist(), strict=True)
        self._scheduled[rows[sooner]] = times[sooner]
        for pair in pairs:
            heapq.heappush(self._times, pair)

    def _reserve(self, n: int) -> None:
        if n > len(self._bits):
            capacity = max(n, 2 * len(self._bits))
            self._bits, self._encoded = grown(self._bits, capacity), grown(self._encoded, capacity)
            self._scheduled = grown(self._scheduled, capacity, FOR_EVER)
