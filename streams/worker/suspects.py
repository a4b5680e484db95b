"""Finds users who look fake, off the event loop; each is checked again after new clicks."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model_core.robust.suspicion import MIN_EVENTS, score_of, suspicion
from model_core.signals.config import SignalConfig
from model_core.signals.parts import PartsReader
from model_core.signals.popularity import shares_at
from streams.api.answers import Suspect
from streams.errors import OwnershipLost
from streams.metrics import Metrics
from streams.settings import Settings
from streams.state.rings import N
from streams.state.shard import Shard
from streams.state.shared import SharedState
from streams.worker.quarantine import Quarantines

DEPTH = 512  # last events of a user that are looked at
SLICE = 256  # users read each time their lock is taken: a millisecond
TOLD = 1.0  # suspicion from which on a user is told of
MAX_TOLD = 50

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    """The checked state of a shard: users' events by row, and who was suspect."""

    shard: Shard
    events: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    suspects: dict[str, Suspect] = field(default_factory=dict)


class Suspects:
    """Looks at users again and again, and puts them into quarantine where that is asked for.

    A released user is not put back automatically.

    Parameters
    ----------
    shards : returns the shards that are restored and owned
    surge_bound : see `surge.counted_share`; where it bounds nothing, surges are told by its default
    """

    def __init__(
        self,
        settings: Settings,
        shards: Callable[[], list[Shard]],
        quarantines: Quarantines,
        *,
        shared: SharedState,
        surge_bound: float,
        metrics: Metrics,
    ) -> None:
        self._at = settings.quarantine_at
        self._shards = shards
        self._quarantines = quarantines
        self._shared = shared
        self._surge_bound = surge_bound or SignalConfig().surge_bound
        self._parts = PartsReader()
        self._metrics = metrics
        self._seen: dict[int, _Seen] = {}

    async def sweep(self) -> None:
        """Look at users who have clicked since the last time, and again at those who were suspect."""
        shards = self._shards()
        self._seen = {shard.partition: self._of(shard) for shard in shards}
        excess = await asyncio.to_thread(self._excess)
        for seen in list(self._seen.values()):
            if ended := await self._quarantines.end_old(seen.shard):
                log.info("partition %d: the quarantine of %d users has ended", seen.shard.partition, ended)
            seen.suspects = await asyncio.to_thread(_look, seen, excess)
            await self._hold(seen)
        self._metrics.users_suspect.set(sum(len(one.suspects) for one in self._seen.values()))

    async def everybody(self) -> list[Suspect]:
        """Look at all users of `MIN_EVENTS` events and more, suspect or not, but for those in quarantine."""
        excess = await asyncio.to_thread(self._excess)
        looks = [await asyncio.to_thread(_look, _Seen(one), excess, told=0.0) for one in self._shards()]
        return [one for found in looks for one in found.values()]

    def of_events(self, items: NDArray[np.int64], liked: NDArray[np.bool_]) -> float:
        """Return how suspect a user of these events is now: (n,) rows of items, and which are likes."""
        rows, places = np.unique(items[-DEPTH:], return_inverse=True)
        excess = self._excess(rows.astype(np.int32))
        ((surges, repetition),) = suspicion(places[None], liked[None, -DEPTH:], excess).tolist()
        return score_of(surges, repetition)

    def of(self, shard: Shard) -> list[Suspect]:
        """Return the users of a shard who were suspect when they were looked at, the most suspect first."""
        found = sorted(self._of(shard).suspects.values(), key=lambda one: -one.score)
        return found[:MAX_TOLD]

    def _of(self, shard: Shard) -> _Seen:
        seen = self._seen.get(shard.partition)
        return seen if seen is not None and seen.shard is shard else _Seen(shard)

    def _excess(self, rows: NDArray[np.int32] | None = None) -> NDArray[np.float64]:
        """Return the share of likes of some items, or of all, that does not count: (n,) float64."""
        if rows is None:
            rows = np.arange(len(self._shared.index), dtype=np.int32)
        return 1.0 - shares_at(self._parts.read(self._shared.parts), rows, self._surge_bound)

    async def _hold(self, seen: _Seen) -> None:
        profiles = seen.shard.profiles
        if self._at is None:
            return
        # Who was erased while users were looked at has no row; a mark would bring the id back.
        wanted = {
            user_id: f"suspicion {one.score:.2f}"
            for user_id, one in seen.suspects.items()
            if one.score >= self._at
            and not self._quarantines.judged(seen.shard, user_id)
            and profiles.row_of(user_id) >= 0
        }
        if not wanted:
            return
        try:
            await self._quarantines.hold_all(seen.shard, wanted)
        except OwnershipLost:
            return
        for user_id in wanted:
            del seen.suspects[user_id]
        log.warning(
            "partition %d: %d users are put into quarantine, their suspicion being %g or more",
            seen.shard.partition, len(wanted), self._at,
        )  # fmt: skip


def _look(seen: _Seen, excess: NDArray[np.float64], *, told: float = TOLD) -> dict[str, Suspect]:
    """Return who is suspect now of the users who have changed and of those who were."""
    profiles, lock = seen.shard.profiles, seen.shard.users_lock
    with lock:
        events = profiles.rings.users[: profiles.n_users, N].copy()
        again = [profiles.row_of(user_id) for user_id in seen.suspects]
    changed = events >= MIN_EVENTS
    changed[: len(seen.events)] &= events[: len(seen.events)] != seen.events
    changed[[row for row in again if row >= 0]] = True
    seen.events = events
    rows, found = np.flatnonzero(changed).astype(np.int32), {}
    for begin in range(0, len(rows), SLICE):
        part = rows[begin : begin + SLICE]
        with lock:
            part = part[~profiles.ids.gone[part]]
            items, codes, _ = profiles.histories(part, DEPTH)
            names = [profiles.ids.text(row) for row in part.tolist()]
            held = [(mark := profiles.quarantine.of(name)) is not None and mark.lasts for name in names]
        parts = suspicion(items, profiles.positive[codes] & (items >= 0), excess)
        for name, is_held, (surges, repetition) in zip(names, held, parts.tolist(), strict=True):
            score = score_of(surges, repetition)
            if score >= told and not is_held:
                found[name] = Suspect(name, score, surges, repetition)
    return found
