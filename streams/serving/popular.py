"""Slates for when there is no room: the most popular items of the user's partition, from a cached list."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation
from streams.events import Recommendation, Request, SlateItem
from streams.serving.allowed_rows import is_among
from streams.serving.eligibility import Eligibility
from streams.state.people import gather
from streams.state.shard import Shard
from streams.state.shared import SharedState
from streams.why.slate_reasons import NEW, POPULAR

DEPTH = 1_000  # items listed a partition
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
    """

    def __init__(
        self,
        shared: SharedState,
        eligibility: Eligibility,
        *,
        counts_as_seen: NDArray[np.bool_],
    ) -> None:
        self._shared = shared
        self._eligibility = eligibility
        self._counts_as_seen = counts_as_seen
        self._lists: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    async def keep_fresh(self) -> None:
        """List the popular items of every partition again and again, in a thread."""
        while True:
            self._lists = await asyncio.to_thread(self._list_all, dict(self._shared.covisits))
            await asyncio.sleep(MAX_AGE_S)

    def refresh(self) -> None:
        """List them now."""
        self._lists = self._list_all(self._shared.covisits)

    def _list_all(
        self, covisits: Mapping[int, CoVisitation]
    ) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        bits = self._eligibility.bits
        eligible = np.flatnonzero(bits)
        found = {}
        for partition, part in covisits.items():
            counts = np.zeros(len(bits), np.int64)
            popularity = part.popularity
            n = min(len(bits), len(popularity))
            counts[:n] = popularity[:n]
            counts = counts[eligible]
            top = np.arange(len(eligible))
            if len(top) > DEPTH:
                top = np.argpartition(-counts, DEPTH)[:DEPTH]
            top = top[np.lexsort((top, -counts[top]))]
            found[partition] = eligible[top], counts[top]
        return found

    def slate(self, request: Request, shard: Shard, *, received: float, depth: int) -> Recommendation:
        """Return the record of a slate of eligible items that the user has not seen.

        Parameters
        ----------
        received : Unix seconds at which the request entered
        depth : events of a user that are read
        """
        rows, counts = self._lists.get(shard.partition, (_NO_ROWS, _NO_ROWS))
        kept = np.flatnonzero(self._permits(request, shard, rows, depth))[: request.k]
        slate = [
            SlateItem(
                item_id=self._shared.index.ids[row],
                position=position,
                score=float(count),
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


_NO_ROWS = np.zeros(0, np.int64)
