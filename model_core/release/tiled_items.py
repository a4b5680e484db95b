"""The item vectors in tiles, so that a few requests are multiplied with them as they lie there.

A library's product first packs the items into such tiles, each time: for a few requests that takes longer
than to multiply.
"""

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.release.near_items import NOTHING, Floats, Near, WholeItems, Written

LANES = 64
"""Items of a tile, whose sums with one request stay in the processor's nearest cache."""
FEW_REQUESTS = 8
"""Requests up to which tiles are quicker, where other work has had the caches between two calls."""


class TiledItems:
    """See `NearItems`: products of the vectors themselves, not off, with a copy in tiles for few requests.

    Parameters
    ----------
    product, scores
        See `WholeItems`; for more than `FEW_REQUESTS` requests.
    """

    norms = errors = NOTHING

    def __init__(self, product: Callable[[Floats, Floats], Floats], *, scores: int = 1 << 18) -> None:
        self._whole, self._scores = WholeItems(product), scores
        self._tiles = np.zeros((0, 0, LANES), np.float32)  # (tiles, dim, LANES)
        self._written = Written()

    def write(self, rows: NDArray[np.int64]) -> None:
        """See `NearItems.write`."""
        self._written.write(rows)

    def hold(self, items: Floats) -> None:
        """See `NearItems.hold`."""
        self._whole.hold(items)
        n, dim = -(-len(items) // LANES), items.shape[1]
        if self._tiles.shape[1] != dim:
            self._tiles = np.zeros((n, dim, LANES), np.float32)
        elif n > len(self._tiles):
            more = np.zeros((max(n, len(self._tiles) * 5 // 4) - len(self._tiles), dim, LANES), np.float32)
            self._tiles = np.concatenate((self._tiles, more))
        if len(rows := self._written.due(items)):
            lay(rows, items, self._tiles)

    def at_once(self, requests: int) -> int:
        """See `NearItems.at_once`."""
        return LANES * max(1, self._scores // requests // LANES)

    def near(self, match: Floats, begin: int, end: int) -> Near:
        """See `NearItems.near`."""
        if len(match) > FEW_REQUESTS:
            return self._whole.near(match, begin, end)
        products = np.empty((len(match), end - begin), np.float32)
        multiply(match, self._tiles, begin // LANES, products)
        return Near(products, NOTHING, NOTHING)


@numba.njit(cache=True, nogil=True)
def lay(rows: NDArray[np.int64], items: Floats, tiles: Floats) -> None:
    """Copy rows of the items, (N, dim), to their places in the tiles."""
    for row in rows:
        tile, lane = row // LANES, row % LANES
        for d in range(items.shape[1]):
            tiles[tile, d, lane] = items[row, d]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def multiply(match: Floats, tiles: Floats, first: int, out: Floats) -> None:
    """Write products of (b, dim) with the items from tile `first` on: (b, n), each a sum in order.

    Eight terms are added each time that a sum is fetched and put back.
    """
    n, dim = out.shape[1], match.shape[1]
    whole = dim - dim % 8
    for t in range(n // LANES):
        at = LANES * t  # said so that no index can be negative, which would forbid vector instructions
        for b in range(len(match)):
            for lane in range(LANES):
                out[b, at + lane] = np.float32(0)
            for d in range(0, whole, 8):
                m0, m1, m2, m3 = match[b, d], match[b, d + 1], match[b, d + 2], match[b, d + 3]
                m4, m5, m6, m7 = match[b, d + 4], match[b, d + 5], match[b, d + 6], match[b, d + 7]
                for lane in range(LANES):
                    total = out[b, at + lane]
                    total += m0 * tiles[first + t, d, lane]
                    total += m1 * tiles[first + t, d + 1, lane]
                    total += m2 * tiles[first + t, d + 2, lane]
                    total += m3 * tiles[first + t, d + 3, lane]
                    total += m4 * tiles[first + t, d + 4, lane]
                    total += m5 * tiles[first + t, d + 5, lane]
                    total += m6 * tiles[first + t, d + 6, lane]
                    total += m7 * tiles[first + t, d + 7, lane]
                    out[b, at + lane] = total
            for d in range(whole, dim):
                for lane in range(LANES):
                    out[b, at + lane] += match[b, d] * tiles[first + t, d, lane]
    for i in range(n - n % LANES, n):  # of the last tile, which is not full
        for b in range(len(match)):
            total = np.float32(0)
            for d in range(dim):
                total += match[b, d] * tiles[first + n // LANES, d, i % LANES]
            out[b, i] = total


def warm() -> None:
    """Compile every kernel, or load it from the cache, so that no request waits for it."""
    held, one = TiledItems(np.outer), np.ones((1, 1), np.float32)
    held.hold(one)
    held.near(one, 0, 1)
