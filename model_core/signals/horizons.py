"""The half-lives at which the popularity of items is counted, and how what is counted lies in a row.

The rate of an item at a half-life is the sum of ``2 ** -(age / half-life)`` over its positive events, by
event time. Rates decay alike for all items, so those of partitions add up once they are of one time.
"""

import numpy as np
from numpy.typing import NDArray

from model_core.robust import surge

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
HALF_LIVES_MS = (10 * MINUTE_MS, HOUR_MS, 6 * HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS)
HORIZONS = len(HALF_LIVES_MS)
RECENT = HALF_LIVES_MS.index(surge.HALF_LIFE_MS)
MOMENTS = 4 * HORIZONS + 16
"""Bytes of a row: the rates as float32, the times of the first and the last event as int64 ms."""

FAINT = np.float32(2**-14)
"""Rate that an item with a positive event, however long ago, is held to have: 0 is of items without any."""


def packed(rates: NDArray[np.float32], times: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Put (n, HORIZONS) rates and (n, 2) times into rows of little-endian bytes: (n, MOMENTS) uint8."""
    columns = (np.ascontiguousarray(rates, "<f4"), np.ascontiguousarray(times, "<i8"))
    return np.concatenate([column.view(np.uint8) for column in columns], axis=1)


def unpacked(moments: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Take rows of `packed` apart."""
    cut = 4 * HORIZONS
    rates = np.ascontiguousarray(moments[:, :cut]).view("<f4").astype(np.float32, copy=False)
    times = np.ascontiguousarray(moments[:, cut:]).view("<i8").astype(np.int64, copy=False)
    return rates.reshape(-1, HORIZONS), times.reshape(-1, 2)
