"""Slates for when there is no room: the most popular items, from a cached list."""

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from model_core.signals.parts import PartsReader
from model_core.signals.popularity import Popularity
from streams.events import Recommendation, Request, SlateItem
from streams.serving.allowed_rows import is_among
from streams.serving.eligibility import Eligibility
from streams.state.people import gather
from streams.state.shard import Shard
from streams.state.shared import SharedState
from streams.why.slate_reasons import NEW, POPULAR

DEPTH = 1_000  # items listed
MAX_AGE_S = 5.0
POLICY = "popularity"
OVERLOADED = "overloaded"


class PopularSlates:
    """Answers a request in some ten microseconds, and says so in the record.

    What it serves depends on nothing but the list and the user, and is no draw of a policy: propensities are
    0 and their kind is "none", there are no features, and nothing is learned from it.

    Parameters
    ----------
    counts_as_seen : (n_actions,) bool
    surge_bound : returns that of the release that serves; see `model_core.robust.surge`
    """

    def __init__(
        self,
        shared: SharedState,
        eligibility: Eligibility,
        *,
        counts_as_seen: NDArray[np.bool_],
        surge_bound: Callable[[], float],
    ) -> None:
        self._shared = shared
        self._eligibility = eligibility
        self._counts_as_seen = counts_as_seen
        self._parts, self._surge_bound = PartsReader(), surge_bound
        self._bound, self._popularity = -1.0, Popularity(0.0)
        self._list = np.zeros(0, np.int64), np.zeros(0, np.float32)

    async def keep_fresh(self) -> None:
        """List the popular items again and again, in a thread."""
        while True:
            await asyncio.to_thread(self.refresh)
            await asyncio.sleep(MAX_AGE_S)

    def refresh(self) -> None:
        """List them now: by the positive events of all partitions, as far as they count."""
        bits = self._eligibility.bits
        if (bound := self._surge_bound()) != self._bound:
            self._bound, self._popularity = bound, Popularity(bound)
        self._popularity.read(self._parts.read(self._shared.parts), len(bits))
        eligible = np.flatnonzero(bits)
        counts = self._popularity.counts[eligible]
        top = np.arange(len(eligible))
        if len(top) > DEPTH:
            top = np.argpartition(-counts, DEPTH)[:DEPTH]
        top = top[np.lexsort((top, -counts[top]))]
        self._list = eligible[top], counts[top]

    def slate(self, request: Request, shard: Shard, *, received: float, depth: int) -> Recommendation:
        """Return the record of a slate of eligible items that the user has not seen.

        Parameters
        ----------
        received : Unix seconds at which the request entered
        depth : events of a user that are read
        """
        rows, counts = self._list
        kept = np.flatnonzero(self._permits(request, shard, rows, depth))[: request.k]
        slate = [
            SlateItem(
                item_id=self._shared.index.ids[row],
                position=position,
                score=count,
                propensity=0.0,
                reasons=[POPULAR if count else NEW],
            )
            for position, (row, count) in enumerate(
                zip(rows[kept].tolist(), counts[kept].tolist(), strict=True)
            )
        ]
        return Recommendation(
            request_id=request.request_id,
            user_id=request.user_id,
            slate=slate,
            policy=POLICY,
            policy_version=0,
            propensity_kind="none",
            model_version=POLICY,
            features=b"",
            feature_dim=0,
            timestamp_ms=request.timestamp_ms,
            latency_ms=round(max(0.0, time.time() - received) * 1000, 3),
            clicks_offset=shard.seen_offset,
            context=request.context,
            fallback=OVERLOADED,
        )

    def _permits(
        self, request: Request, shard: Shard, rows: NDArray[np.int64], depth: int
    ) -> NDArray[np.bool_]:
        index, catalogue = self._shared.index, self._shared.catalogue
        with shard.users_lock:
            user = (shard.profiles, shard.profiles.row_of(request.user_id))
            people = gather(
                [user], depth=depth, counts_as_seen=self._counts_as_seen, positive=self._counts_as_seen
            )
        gone = [people.seen[0], people.stated[0].blocked, index.known_rows(request.exclude)]
        permitted = self._eligibility.open(rows, request.timestamp_ms)
        permitted &= self._shared.prerequisites.permits(rows, people.pasts)
        if self._shared.budgets is not None:
            permitted &= self._shared.budgets.permits(rows, request.request_id)
        permitted &= ~is_among(rows, np.unique(np.concatenate(gone)))
        only: list[Sequence[NDArray[np.int32]]] = [
            catalogue.postings(relation, values) for relation, values in request.filters.items()
        ]
        if request.candidates is not None:
            only.append([np.unique(index.known_rows(request.candidates))])
        for lists in only:
            permitted &= np.logical_or.reduce(
                [is_among(rows, ascending) for ascending in lists], initial=False, axis=0
            )
        return permitted
