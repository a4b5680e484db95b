"""Lets users be forgotten who have done nothing for long, so that a worker holds a bounded number of them."""

import asyncio
import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from streams.clock import Clock
from streams.metrics import Metrics
from streams.settings import Settings
from streams.state.shard import Shard

log = logging.getLogger(__name__)

EXPIRY_INTERVAL_S = 3600.0
SLICE = 256  # users forgotten between two looks at the event loop
DAY_MS = 86_400_000


class IdleUsers:
    """Sweeps, again and again.

    How long a user has been idle goes by event time: from the last event to the watermark of the partition.
    Who has an open slate stays. The marks of erased users go when old clicks cannot bring them back any more.

    Parameters
    ----------
    shards : returns the shards that are restored and owned
    """

    def __init__(
        self, settings: Settings, shards: Callable[[], list[Shard]], *, metrics: Metrics, clock: Clock
    ) -> None:
        ttl = settings.user_ttl_days
        self._ttl_ms = None if ttl is None else int(ttl * DAY_MS)
        self._max_users = settings.max_users
        self._keep_erasures_ms = int(settings.erasure_ttl_days * DAY_MS)
        self._shards = shards
        self._metrics = metrics
        self._clock = clock
        self._expired_after = 0.0

    async def sweep(self) -> None:
        """Forget whose time is over, once an hour, and the longest idle where there are too many."""
        expires = self._clock.monotonic() >= self._expired_after
        if expires:
            self._expired_after = self._clock.monotonic() + EXPIRY_INTERVAL_S
        for shard in self._shards():
            if expires:
                self._forget_erasures(shard)
            await self._sweep(shard, expires=expires)

    def _forget_erasures(self, shard: Shard) -> None:
        now_ms = int(self._clock.time() * 1000)
        before_ms = now_ms - self._keep_erasures_ms
        with shard.users_lock:
            gone = shard.profiles.forget_erasures(before_ms=before_ms, now_ms=now_ms)
        self._metrics.count_reclaimed("erasures", gone)

    async def _sweep(self, shard: Shard, *, expires: bool) -> None:
        held, most = shard.profiles.n_live, self._max_users
        surplus = held - (most - most // 16) if held > most else 0
        before_ms = shard.watermark.ms - self._ttl_ms if expires and self._ttl_ms is not None else 0
        if not surplus and before_ms <= 0:
            return
        rows, last_ms = await asyncio.to_thread(_idlest, shard, surplus, before_ms)
        done = 0
        for begin in range(0, len(rows), SLICE):
            if shard.dropped:
                break
            part = slice(begin, begin + SLICE)
            done += _drop(shard, rows[part], last_ms[part])
            await asyncio.sleep(0)
        self._metrics.count_reclaimed("users", done)
        if surplus:
            log.warning(
                "partition %d: %d users are more than max_users, %d: the %d longest idle are forgotten",
                shard.partition, held, most, done,
            )  # fmt: skip


def _idlest(shard: Shard, surplus: int, before_ms: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Rows of the users who have been idle since `before_ms`, or are so many too many; and since when."""
    with shard.users_lock:
        rows = np.flatnonzero(~shard.profiles.ids.gone).astype(np.int32)
    last_ms = shard.profiles.last_ms(rows)
    order = np.argsort(last_ms, kind="stable")
    chosen = order[: max(surplus, int(np.count_nonzero(last_ms < before_ms)))]
    return rows[chosen], last_ms[chosen]


def _drop(shard: Shard, rows: NDArray[np.int32], last_ms: NDArray[np.int64]) -> int:
    """Forget users, unless they have been there meanwhile; return how many were forgotten."""
    profiles = shard.profiles
    with shard.users_lock:
        idle = ~profiles.ids.gone[rows] & (profiles.last_ms(rows) == last_ms)
        chosen = [row for row in rows[idle].tolist() if not shard.slates.has_open(profiles.ids.text(row))]
        profiles.drop(np.array(chosen, np.int32))
    return len(chosen)
