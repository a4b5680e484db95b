"""Lists that are the same for everybody: what is trending, popular, fresh, and met with an item."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation_scores import WEIGHT_UNIT
from model_core.signals.horizons import DAY_MS, HALF_LIVES_MS, HOUR_MS
from model_core.signals.joint import joint_scores
from model_core.signals.parts import Parts, PartsReader
from model_core.signals.popularity import Popularity
from model_core.signals.trends import Trends
from streams.api.answers import ItemList, ListedItem
from streams.clock import Clock
from streams.serving.allowed_rows import is_among
from streams.serving.eligibility import Eligibility
from streams.state.shared import SharedState

NAMES = ("trending", "popular", "fresh")
DEPTH = 10_000
"""The best items of a list, which filters choose from."""
MAX_AGE_S = 1.0
SHARE = 10.0  # seconds that a ranking serves for each one that it took to make
SHORT, LONG, POPULAR = (HALF_LIVES_MS.index(ms) for ms in (6 * HOUR_MS, 7 * DAY_MS, 30 * DAY_MS))

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]


class Ranking(NamedTuple):
    """Items, the best first: rows, (n,) int64, and scores, (n,) float64."""

    rows: Rows
    scores: Scores


class Wanted(NamedTuple):
    """Selection from a list: k items that have a value of each filter and are not excluded."""

    k: int
    filters: Mapping[str, Sequence[str]]
    exclude: Collection[str]


class Lists:
    """Ranks the items that may be served by what all partitions say of them; one worker knows them all.

    Rankings are made in a thread, when somebody asks, and once a second at most.

    Parameters
    ----------
    surge_bound : returns that of the release that serves; see `model_core.robust.surge`
    """

    def __init__(
        self,
        shared: SharedState,
        eligibility: Eligibility,
        clock: Clock,
        *,
        surge_bound: Callable[[], float],
    ) -> None:
        self._shared = shared
        self._eligibility = eligibility
        self._clock = clock
        self._turn = asyncio.Lock()
        self._parts, self._surge_bound = PartsReader(), surge_bound
        self._bound = -1.0  # that `_trends` and `_popularity` count by
        self._trends, self._popularity = Trends(0.0), Popularity(0.0)
        self._rankings: dict[str, Ranking] = {}
        self._as_of_ms = 0
        self._good_until = -1.0

    async def of(self, name: str, wanted: Wanted) -> ItemList:
        """Return a list by its name, one of `NAMES`.

        trending: taken more often in the last hours than in the last week, in standard deviations; popular:
        taken, each event counting half after 30 days; fresh: by when it was published, or first met, in ms.
        """
        async with self._turn:
            if self._clock.monotonic() >= self._good_until:
                await self._rank()
        return self._listed(name, self._rankings[name], wanted)

    async def similar(self, item_id: str, wanted: Wanted) -> ItemList | None:
        """Return what is met together with an item, tempered by popularity; None if nobody knows the item."""
        row = self._shared.index.row_of(item_id)
        if row < 0:
            return None
        async with self._turn:
            ranking = await asyncio.to_thread(self._met_with, row)
        return self._listed("similar", ranking, wanted, item_id=item_id)

    def _count_as_served(self) -> None:
        if (bound := self._surge_bound()) != self._bound:
            self._bound, self._trends, self._popularity = bound, Trends(bound), Popularity(bound)

    async def _rank(self) -> None:
        began, now_ms = self._clock.monotonic(), int(self._clock.time() * 1000)
        self._as_of_ms, self._rankings = await asyncio.to_thread(self._ranked, now_ms)
        ended = self._clock.monotonic()
        self._good_until = ended + max(MAX_AGE_S, SHARE * (ended - began))

    # In a thread, one call at a time

    def _ranked(self, now_ms: int) -> tuple[int, dict[str, Ranking]]:
        """Rank by all names, as of the newest event: what was hot then is so until more is known."""
        self._count_as_served()
        bits = self._eligibility.bits
        n = min(len(bits), len(self._shared.index))
        rows = np.flatnonzero(bits[:n]).astype(np.int64)
        parts = self._parts.read(self._shared.parts)
        as_of_ms = self._read(parts, n, now_ms)
        rates = self._trends.rates(as_of_ms)[:, rows].astype(np.float64)
        expected = rates[LONG] * (HALF_LIVES_MS[SHORT] / HALF_LIVES_MS[LONG])
        published = self._shared.catalogue.published_ms(rows)
        since = np.where(published > 0, published, np.maximum(self._trends.first_ms()[rows], 0))
        found = {
            "trending": (rates[SHORT] - expected) / np.sqrt(1 + expected),
            "popular": rates[POPULAR],
            "fresh": since.astype(np.float64),
        }
        return as_of_ms, {name: _best(rows, scores) for name, scores in found.items()}

    def _read(self, parts: Parts, n: int, now_ms: int) -> int:
        self._trends.read(parts, n, self._as_of_ms or now_ms)
        as_of_ms = min(now_ms, max(self._trends.newest_ms(), 0))
        self._trends.read(parts, n, as_of_ms)  # which reads nothing again within an hour of the last
        return as_of_ms

    def _met_with(self, row: int) -> Ranking:
        self._count_as_served()
        parts = self._parts.read(self._shared.parts)
        self._popularity.read(parts, len(self._shared.index))
        history, weight = np.array([[row]], np.int64), np.array([[WEIGHT_UNIT]], np.int64)
        near, values = joint_scores(parts, history, weight, self._popularity.tempers, None)
        rows = near.rows.astype(np.int64)
        return _best(rows[rows != row], values[rows != row, 0].astype(np.float64))

    # Event loop

    def _listed(self, name: str, ranking: Ranking, wanted: Wanted, *, item_id: str | None = None) -> ItemList:
        shared, now_ms = self._shared, int(self._clock.time() * 1000)
        rows = ranking.rows
        kept = self._eligibility.open(rows, now_ms)
        kept &= ~is_among(rows, np.unique(shared.index.known_rows(wanted.exclude)))
        for relation, values in wanted.filters.items():
            postings = shared.catalogue.postings(relation, values)
            kept &= np.logical_or.reduce([is_among(rows, one) for one in postings], initial=False, axis=0)
        places = np.flatnonzero(kept)[: wanted.k]
        named = zip(rows[places].tolist(), ranking.scores[places].tolist(), strict=True)
        items = [
            ListedItem(shared.index.ids[row], round(score, 6), shared.catalogue.title(row))
            for row, score in named
        ]
        return ItemList(name=name, items=items, as_of_ms=self._as_of_ms or now_ms, item_id=item_id)


def _best(rows: Rows, scores: Scores) -> Ranking:
    """Rank the items of positive scores, the first `DEPTH`; equal ones by row."""
    some = np.flatnonzero(scores > 0)
    if len(some) > DEPTH:
        some = some[np.argpartition(-scores[some], DEPTH)[:DEPTH]]
    some = some[np.lexsort((rows[some], -scores[some]))]
    return Ranking(rows[some], scores[some])
