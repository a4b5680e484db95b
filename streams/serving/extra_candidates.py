"""Items that are candidates of a request even if retrieval does not bring them.

They are pinned, boosted, fresh, liked by friends, or on trial.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import SparseRows
from model_core.release.scorer import Scores
from online_learning.sampling import mix
from streams.events import Request
from streams.serving.allowed_rows import Allowed
from streams.serving.friends import FriendsItems
from streams.serving.newcomers import Newcomers, Trials
from streams.settings import Settings
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Extras:
    """Items that the candidates of a batch must contain: pinned, boosted, fresh, friends' ones, and trials.

    Attributes
    ----------
    wanted : the rows that must be candidates of each request
    pinned : for each request the rows that are pinned, in their order; empty where none has any
    boosts : for each request rows, and what is added to their utility; empty where none has any
    trials : of which items one is on trial, if any
    """

    wanted: SparseRows
    pinned: Sequence[Rows]
    boosts: Sequence[tuple[Rows, NDArray[np.float32]]]
    trials: Trials | None


class ExtraCandidates:
    """Finds what the settings and a request want among its candidates."""

    def __init__(
        self, settings: Settings, index: ItemIndex, catalogue: Catalogue, newcomers: Newcomers
    ) -> None:
        self._settings = settings
        self._index = index
        self._catalogue = catalogue
        self._newcomers = newcomers

    def of(
        self,
        requests: Sequence[Request],
        allowed: Allowed,
        likes: NDArray[np.float32],
        seeds: NDArray[np.uint64],
        *,
        fresh: bool,
        friends: Sequence[FriendsItems] | None = None,
    ) -> Extras | None:
        """Return what a batch wants; None where it wants nothing.

        A request's own pinned items come before those of the settings; they may be such as the user has
        seen.

        Parameters
        ----------
        likes : (N,) positive events of each item, those that count
        fresh : whether fresh items have positions of their own: then as many as `fresh_candidates` allows
            are wanted, drawn by the request's seed among all that the request may be given
        friends : for each request what its user's friends liked; their boosts are added to others
        """
        trials = self._newcomers.of(requests, allowed, likes, seeds)
        always = fresh or self._settings.boosts or self._settings.pinned or friends is not None
        if not always and not any(request.pinned or request.boosts for request in requests):
            return None if trials is None else Extras(trials.drawn, (), (), trials)
        new = self._published_after(requests, allowed.eligible) if fresh else []
        wanted: list[NDArray[np.integer]] = []
        pinned, boosts = [], []
        for b, request in enumerate(requests):
            top = self._rows((*request.pinned, *self._settings.pinned))
            top = top[allowed.permits(b, top, seen=True)]
            given = self._settings.boosts | request.boosts
            rows = self._rows(given)
            rows = rows[allowed.permits(b, rows, seen=False)]
            values = np.array([given[self._index.ids[row]] for row in rows.tolist()], np.float32)
            if friends is not None:
                rows, values = _with_friends(rows, values, friends[b], allowed, b)
            drawn = self._drawn(new[b], b, allowed, seeds[b]) if fresh else rows[:0]
            pinned.append(top)
            boosts.append((rows, values))
            tried = rows[:0] if trials is None else trials.drawn.of_request(b)
            wanted.append(np.concatenate((top, rows, drawn, tried)))
        return Extras(SparseRows.of(wanted), pinned, boosts, trials) if any(map(len, wanted)) else None

    def _rows(self, ids: Iterable[str]) -> Rows:
        return self._index.known_rows(dict.fromkeys(ids)).astype(np.int64)

    def _published_after(self, requests: Sequence[Request], eligible: NDArray[np.bool_]) -> list[Rows]:
        """For each request the items that are fresh at its time."""
        since = np.array([request.timestamp_ms for request in requests], np.int64) - self._settings.fresh_ms
        known = np.flatnonzero(eligible)
        published = self._catalogue.published_ms(known)
        some = published > since.min()
        known, published = known[some], published[some]
        return [known[published > time_ms] for time_ms in since.tolist()]

    def _drawn(self, new: Rows, request: int, allowed: Allowed, seed: np.uint64) -> Rows:
        rows = new[allowed.permits(request, new, seen=False)]
        # By the items' keys: their rows differ between workers.
        return rows[np.argsort(mix(self._index.keys[rows] ^ seed))[: self._settings.fresh_candidates]]


def _with_friends(
    rows: Rows, values: NDArray[np.float32], liked: FriendsItems, allowed: Allowed, request: int
) -> tuple[Rows, NDArray[np.float32]]:
    """Return rows and what is added to their utility, with what friends liked among them."""
    permitted = allowed.permits(request, liked.rows, seen=False)
    every, places = np.unique(np.concatenate((rows, liked.rows[permitted])), return_inverse=True)
    given = np.concatenate((values, liked.boosts[permitted]))
    return every, np.bincount(places, given, minlength=len(every)).astype(np.float32)


def columns(extras: Extras | None, scores: Scores) -> dict[str, NDArray[Any]]:
    """Return the columns `pinned`, `boosts` and `trial` of `Candidates`, as far as there are any."""
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
    if extras.trials is not None:
        found["trial"], found["trial_at"] = extras.trials.columns(scores), extras.trials.positions
    return found
