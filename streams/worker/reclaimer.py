"""Takes back the rows of items that nobody needs: what a worker holds is bounded, whatever is clicked.

A row is needed while its item is described, or is in what a user has done or said. Others are taken back when
`max_undescribed_items` is near, those first that were met longest ago, or when their time is over.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray

from streams.clock import Clock
from streams.metrics import Metrics
from streams.serving.eligibility import Eligibility
from streams.serving.lane import Lanes
from streams.settings import Settings
from streams.state.shard import Shard
from streams.state.shared import SharedState

SWEEP_INTERVAL_S = 10.0
EXPIRY_INTERVAL_S = 3600.0
LONGEST_PAUSE_S = 640.0
ARMS_AT_ONCE = 64  # a model of 70 features has 20 kB
SLICE = 2048  # rows between two looks at the event loop

Rows = NDArray[np.int32]
_NONE = np.zeros(0, np.int32)


class Reclaimer:
    """Sweeps, again and again.

    What is unneeded is looked for in a thread, while the event loop goes on: an item met since the look began
    (`ItemIndex.met_s`) is kept. An unneeded item is then forgotten; from there on nothing new can name its
    row, and it is taken out of co-visits, and off the changelog. The next sweep lets another item have the
    row: what named it, a batch in the inference thread or a flush, is over by then.

    Parameters
    ----------
    shards : returns the shards that are restored and owned
    incomplete : tells whether items or users are still being read: what is needed is not known yet
    """

    def __init__(
        self,
        settings: Settings,
        shards: Callable[[], list[Shard]],
        incomplete: Callable[[], bool],
        *,
        shared: SharedState,
        lanes: Lanes,
        eligibility: Eligibility,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._limit = settings.max_undescribed_items
        self._ttl_s = settings.undescribed_ttl_days * 86_400
        self._shards = shards
        self._incomplete = incomplete
        self._shared = shared
        self._lanes = lanes
        self._eligibility = eligibility
        self._metrics = metrics
        self._clock = clock
        self._forgotten = _NONE
        self._pause_s = SWEEP_INTERVAL_S
        self._crowded_after = self._expired_after = 0.0

    async def sweep(self) -> None:
        """Release what was forgotten before, and forget what is not needed."""
        index, now_s = self._shared.index, int(self._clock.time())
        index.now_s = max(index.now_s, now_s)
        await self._release()
        shards = self._shards()
        if self._incomplete():
            return
        index.max_undescribed = self._limit  # not before: items count as undescribed until they are read
        if not shards:
            return
        expired = self._clock.monotonic() >= self._expired_after
        crowded = self._surplus() if self._clock.monotonic() >= self._crowded_after else 0
        if not expired and not crowded:
            return
        rows = await asyncio.to_thread(self._unneeded, index.now_s, shards, crowded)
        done = await self._forget(rows, index.now_s, shards)
        await self._prune(done)
        self._forgotten = np.concatenate((self._forgotten, done))
        self._metrics.count_reclaimed("items", len(done))
        await self._drop_arms(shards)
        self._rest(crowded, len(done))

    def _surplus(self) -> int:
        """Return how many undescribed items exceed three quarters of the limit, once near to it."""
        held = self._shared.index.n_undescribed
        return held - self._limit * 3 // 4 if held > self._limit * 7 // 8 else 0

    def _rest(self, crowded: int, done: int) -> None:
        """Say when to look again: later and later while there is little to be found."""
        now = self._clock.monotonic()
        self._expired_after = now + EXPIRY_INTERVAL_S
        if crowded:
            fruitless = done < crowded
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if fruitless else SWEEP_INTERVAL_S
            self._crowded_after = now + (self._pause_s if fruitless else 0.0)

    def _unneeded(self, started_s: int, shards: list[Shard], crowded: int) -> Rows:
        """Rows to take back, those first whose items were met longest ago; in any thread."""
        index, known = self._shared.index, self._shared.catalogue.windows.known
        gone, met_s = index.gone, index.met_s
        n = min(len(gone), len(met_s))
        idle = ~gone[:n] & (met_s[:n] < started_s)
        idle[: len(known)] &= ~known[:n]
        old = idle & (met_s[:n] < started_s - self._ttl_s)
        if not crowded and not old.any():
            return _NONE
        needed = np.zeros(n, np.bool_)
        for shard in shards:
            shard.mark_items(needed)
        free = np.flatnonzero(idle & ~needed).astype(np.int32)
        free = free[np.argsort(met_s[free], kind="stable")]
        return free[: max(crowded, int(np.count_nonzero(old[free])))]

    async def _forget(self, rows: Rows, started_s: int, shards: list[Shard]) -> Rows:
        """Forget items that are still not needed; return their rows."""
        index, shared = self._shared.index, self._shared
        done = [_NONE]
        for part in _slices(rows):
            if self._incomplete() or self._shards() != shards:
                break
            known = shared.catalogue.windows.known
            described = np.zeros(len(part), np.bool_)
            described[part < len(known)] = known[part[part < len(known)]]
            part = part[~described & (index.met_s[part] < started_s)]
            for shard in shards:
                shard.drop_items(part, index)
            owned = {shard.partition for shard in shards}
            for partition, covisits in shared.covisits.items():
                if partition not in owned:
                    covisits.drop(part)
            index.forget(part)
            done.append(part)
            await asyncio.sleep(0)
        return np.concatenate(done)

    async def _prune(self, rows: Rows) -> None:
        """Take forgotten rows out of the co-visits of the others."""
        if not len(rows):
            return
        locks = {shard.partition: shard.items_lock for shard in self._shards()}
        for partition, covisits in list(self._shared.covisits.items()):
            for begin in range(0, covisits.n_items, SLICE):
                with locks.get(partition, nullcontext()):
                    covisits.forget(self._shared.index.gone, begin, begin + SLICE)
                await asyncio.sleep(0)

    async def _drop_arms(self, shards: list[Shard]) -> None:
        for shard in shards:
            arms = await asyncio.to_thread(shard.learning.stale_arms, self._shared.index)
            for begin in range(0, len(arms), ARMS_AT_ONCE):
                shard.statistics.forget(arms[begin : begin + ARMS_AT_ONCE])
                await asyncio.sleep(0)
            self._metrics.count_reclaimed("arms", len(arms))

    async def _release(self) -> None:
        """Free the rows of forgotten items, once nothing refers to them."""
        if not len(self._forgotten) or self._lanes.pending:
            return
        rows, self._forgotten = self._forgotten, _NONE
        for shard in self._shards():
            async with shard.lock:  # a flush reads the keys of the rows that it packs
                pass
        for lane in self._lanes:
            if lane in self._lanes:  # else it was let go while the one before it was cleared
                await lane.items.clear(rows)
        self._eligibility.forget(rows)
        self._shared.catalogue.forget(rows)
        for part in _slices(rows):
            self._shared.index.release(part)
            await asyncio.sleep(0)


def _slices(rows: Rows) -> Iterator[Rows]:
    for begin in range(0, len(rows), SLICE):
        yield rows[begin : begin + SLICE]
