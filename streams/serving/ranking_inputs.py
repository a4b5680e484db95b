"""What a device is told of the items of a list, to rank them by itself: vectors, popularity, co-visits."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation_scores import WEIGHT_UNIT
from model_core.signals.config import SignalConfig
from model_core.signals.joint import joint_scores
from model_core.signals.parts import Parts, PartsReader
from model_core.signals.pasts import Window
from model_core.signals.popularity import Popularity
from model_core.signals.trends import Trends, popularity_signal
from streams.api.answers import ItemList
from streams.clock import Clock
from streams.serving.lane import Lanes
from streams.state.shared import SharedState

NEIGHBOURS = 256
"""Items that one is met together with, of which it is told: as many as a partition counts of one."""

Floats = NDArray[np.float32]
Neighbours = list[list[tuple[str, float]]]


class RankingInputs:
    """Reads vectors on the inference thread of the release that serves, and the rest in a thread."""

    def __init__(self, shared: SharedState, lanes: Lanes, clock: Clock) -> None:
        self._shared = shared
        self._lanes = lanes
        self._clock = clock
        self._turn = asyncio.Lock()
        self._parts = PartsReader()
        self._counted_by = -1.0, -1.0  # bound of surges and rarity that these count by
        self._popularity, self._trends = Popularity(0.0), Trends(0.0)

    async def beside(self, listed: ItemList) -> ItemList:
        """Return a list with what the release that serves reads of its items, whoever asks.

        Items that have been forgotten since the list was made are left out.
        """
        lane, index = self._lanes.serving, self._shared.index
        there = [(one, row) for one in listed.items if (row := index.row_of(one.item_id)) >= 0]
        if not there:
            return msgspec.structs.replace(listed, items=[], model_version=lane.version)
        rows = np.array([row for _, row in there], np.int64)
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(lane.inference, lane.items.vectors_of, rows)
        async with self._turn:
            levels, neighbours = await asyncio.to_thread(self._read, rows, lane.scorer.release.signals)
        items = [
            msgspec.structs.replace(one, vector=vector.tobytes(), popularity=level, met_with=met)
            for (one, _), vector, level, met in zip(there, vectors, levels, neighbours, strict=True)
        ]
        return msgspec.structs.replace(listed, items=items, model_version=lane.version)

    # In a thread, one call at a time

    def _read(self, rows: NDArray[np.int64], signals: SignalConfig) -> tuple[list[float], Neighbours]:
        counted_by = signals.surge_bound, signals.read_temper
        if counted_by != self._counted_by:
            self._counted_by = counted_by
            self._popularity, self._trends = Popularity(*counted_by), Trends(signals.surge_bound)
        parts = self._parts.read(self._shared.parts)
        self._popularity.read(parts, len(self._shared.index))
        now_ms = np.array([int(self._clock.time() * 1000)], np.int64)
        levels = popularity_signal(signals.horizon, self._popularity, self._trends, parts, now_ms)
        ids = self._shared.index.ids
        return levels[rows].tolist(), [
            [(ids[other], value) for other, value in zip(*met, strict=True)]
            for met in met_with(parts, self._popularity, rows)
        ]


def met_with(
    parts: Parts, popularity: Popularity, rows: NDArray[np.int64], *, most: int = NEIGHBOURS
) -> Iterator[tuple[list[int], list[float]]]:
    """Yield, of each item, what adds most to its signal of co-visits: rows, and how much each adds.

    That is for the last event of a user, a positive one; of an earlier one `SignalConfig` says what is left.

    Parameters
    ----------
    popularity : which has read the parts, with the release's `read_temper`
    rows : (C,) int64
    most : of each item
    """
    asked, n = rows[:, None], len(popularity.counts)
    near, counts = joint_scores(parts, asked, _full(asked), np.ones(n), None)  # divided by nothing: counts
    others = near.rows[None].astype(np.int64)
    rarity = popularity.weighed(Window(others, _full(others))).weights[0] / WEIGHT_UNIT
    values = counts[:, 0] * rarity / popularity.tempers[np.repeat(rows, np.diff(near.bounds))]
    values = np.round(values, 6)
    for begin, end in pairwise(near.bounds.tolist()):
        best = begin + np.argsort(-values[begin:end], kind="stable")[:most]
        yield near.rows[best].tolist(), values[best].tolist()


def _full(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Weights of events that count in full."""
    return np.full(rows.shape, WEIGHT_UNIT)
