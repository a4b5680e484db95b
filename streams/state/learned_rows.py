"""Positions of slates on their way to the statistics that policies learn from."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.attribution.pending_slates import OpenSlate
from streams.state.item_index import key_of


class LearnedRows:
    """Positions of slates with a number each, on their way to the statistics.

    Parameters
    ----------
    rows : see `Statistics.rows`
    """

    def __init__(self, rows: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        self._rows_of = rows
        self._rows: list[tuple[NDArray[Any], float, int, int, int]] = []

    def add(self, slate: OpenSlate, position: int, value: float, offset: int) -> None:
        """Add a position of a slate, with what the event at an offset says of it."""
        arm = key_of(slate.item_ids[position])
        row = self._rows_of(slate.features)[position]
        self._rows.append((row, value, arm, slate.timestamp_ms, offset))

    def give_to(self, learn: Callable[..., int]) -> None:
        """Hand all of them over, if there are any: to `Statistics.add_rewards`, or `amend_impressions`."""
        if self._rows:
            features, values, arms, times, offsets = zip(*self._rows, strict=True)
            learn(
                np.stack(features),
                np.array(values),
                arms=np.array(arms, np.uint64),
                times_ms=np.array(times, np.int64),
                offsets=np.array(offsets, np.int64),
            )
