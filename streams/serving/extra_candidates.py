"""Items that are candidates of a request even if retrieval does not bring them: pinned, boosted, fresh."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.release.batches import ScoreBatch
from model_core.release.scorer import Scores
from online_learning.sampling import mix
from streams.events import Request
from streams.items.table import AnyScorer
from streams.settings import Settings
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Extras:
    """What the candidates of a batch must contain, and what is special about some.

    Attributes
    ----------
    wanted : (B, N) bool, item rows that must be candidates
    pinned : for each request the rows that are pinned, in their order
    boosts : for each request rows, and what is added to their utility
    """

    wanted: NDArray[np.bool_]
    pinned: Sequence[Rows]
    boosts: Sequence[tuple[Rows, NDArray[np.float32]]]


class ExtraCandidates:
    """Finds what the settings and a request want among its candidates.

    An item's score does not depend on the other candidates, so those that retrieval has not brought are
    scored by a second pass, which only requests that miss some take.
    """

    def __init__(self, settings: Settings, index: ItemIndex, catalogue: Catalogue) -> None:
        self._settings = settings
        self._index = index
        self._catalogue = catalogue

    def pinned(self, request: Request, allowed: NDArray[np.bool_]) -> Rows:
        """Return the rows to pin, the request's own before those of the settings.

        Parameters
        ----------
        allowed : (N,) bool, what the request may be given, whether the user has seen it or not
        """
        return self._rows((*request.pinned, *self._settings.pinned), allowed)

    def of(
        self,
        requests: Sequence[Request],
        pinned: Sequence[Rows],
        eligible: NDArray[np.bool_],
        seeds: NDArray[np.uint64],
        *,
        fresh: bool,
    ) -> Extras | None:
        """Return what a batch wants; None where it wants nothing.

        Parameters
        ----------
        pinned : for each request what `pinned` says
        eligible : (B, N) bool
        fresh : whether fresh items have positions of their own: then as many as `fresh_candidates` allows
            are wanted, drawn by the request's seed among all that are eligible
        """
        asked = fresh or self._settings.boosts or any(len(rows) for rows in pinned)
        if not asked and not any(request.boosts for request in requests):
            return None
        wanted = np.zeros_like(eligible)
        boosts = []
        for b, request in enumerate(requests):
            wanted[b, pinned[b]] = True
            given = self._settings.boosts | request.boosts
            rows = self._rows(given, eligible[b])
            values = [given[self._index.ids[row]] for row in rows.tolist()]
            boosts.append((rows, np.array(values, np.float32)))
            wanted[b, rows] = True
            if fresh:
                wanted[b, self._fresh(request, eligible[b], seeds[b])] = True
        return Extras(wanted, pinned, boosts) if wanted.any() else None

    def _rows(self, ids: Iterable[str], allowed: NDArray[np.bool_]) -> Rows:
        rows = self._index.known_rows(dict.fromkeys(ids)).astype(np.int64)
        rows = rows[rows < len(allowed)]
        return rows[allowed[rows]]

    def _fresh(self, request: Request, eligible: NDArray[np.bool_], seed: np.uint64) -> Rows:
        since = request.timestamp_ms - self._settings.fresh_ms
        rows = np.flatnonzero(eligible & self._catalogue.published_after(since, len(eligible)))
        # By the items' keys: their rows differ between workers.
        return rows[np.argsort(mix(self._index.keys[rows] ^ seed))[: self._settings.fresh_candidates]]


def score_all(
    scorer: AnyScorer, batch: ScoreBatch, items: NDArray[np.float32], extras: Extras | None
) -> Scores:
    """Return what the scorer retrieves, and after it what is wanted and was not retrieved.

    Parameters
    ----------
    items : (N, dim) float32
    """
    scores = scorer.score(batch, items)
    if extras is None:
        return scores
    missing = extras.wanted.copy()
    requests, columns = np.nonzero(scores.valid)
    missing[requests, scores.rows[requests, columns]] = False
    lacking = np.flatnonzero(missing.any(axis=1))
    if not len(lacking):
        return scores
    parts = {column.name: getattr(batch, column.name)[lacking] for column in fields(ScoreBatch)}
    return _beside(scores, scorer.score(ScoreBatch(**parts | {"eligible": missing[lacking]}), items), lacking)


def _beside(scores: Scores, more: Scores, requests: NDArray[np.int64]) -> Scores:
    """Return scores with the valid candidates of `more`, which are of some of the requests, as columns."""
    width = int(more.valid.sum(axis=1).max())
    joined = {}
    for column in fields(Scores):
        first, second = getattr(scores, column.name), getattr(more, column.name)[:, :width]
        added = np.zeros((len(first), *second.shape[1:]), first.dtype)
        added[requests] = second
        joined[column.name] = np.concatenate([first, added], axis=1)
    return Scores(**joined)


def columns(extras: Extras | None, scores: Scores) -> dict[str, NDArray[Any]]:
    """Return the columns `pinned` and `boosts` of `Candidates`, as far as there are any."""
    found: dict[str, NDArray[Any]] = {}
    if extras is None:
        return found
    if any(len(rows) for rows in extras.pinned):
        found["pinned"] = np.full(scores.rows.shape, -1, np.int64)
        for b, rows in enumerate(extras.pinned):
            at = (scores.rows[b] == rows[:, None]) & scores.valid[b]
            ranks, places = np.nonzero(at)
            found["pinned"][b, places] = ranks
    if any(len(rows) for rows, _ in extras.boosts):
        found["boosts"] = np.zeros(scores.rows.shape, np.float32)
        for b, (rows, values) in enumerate(extras.boosts):
            at = (scores.rows[b] == rows[:, None]) & scores.valid[b]
            order, places = np.nonzero(at)
            found["boosts"][b, places] = values[order]
    return found
