"""Items on trial: new ones get a place in slates, until it is known who likes them.

Whatever ranks by responses never shows an item that has none, and one that has few hardly ever. So one
position in the lower half of a slate may go to a new item. An item is new for `fresh_ms` from its
publication.

- A share `trial_share` of all positions is for new items that were hardly ever shown. Half of these are drawn
  blindly; the others are what suits the user best among a few, by the score that an item has from its texts
  and attributes alone.
- Items that were shown a few times compete for this position in all other slates of more than one item, by
  Thompson sampling: one is shown if a draw from what is believed of its rate of responses is above the rate
  that other items have in such positions. What is not liked is so shown less and less, and what is liked
  gains the responses by which everything else ranks it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numba
import numpy as np
import xxhash
from numpy.typing import NDArray

from model_core.data.batches import SparseRows
from model_core.release.scorer import Scores
from streams.clock import Clock
from streams.events import Request
from streams.serving.allowed_rows import Allowed, is_among
from streams.settings import Settings
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.trial_counts import TrialCounts

Rows = NDArray[np.int64]

MAX_AGE_S = 1.0
SHARE = 100.0  # seconds that a look at the catalogue serves for each one that it took
SUITABLE = 10
"""Items drawn for a trial of which the one that suits the user best is shown."""
LOOKED_AT = 32
"""Items looked at first to find those that a user may be given: what they have seen or blocked is none."""
ENOUGH = 8
"""Times that an item is shown before its rate of responses is believed."""
PRIOR_SHOWN = 4.0
"""What is believed of a rate beforehand, as so many times shown with the rate of others."""
DRAWS, CONTENDERS = 32, 4
"""Draws of rates from one look to the next, and the best items of one that compete for a place."""
DRAWN = 1_000
"""Items whose rates are drawn at a look: others at the next, where there are more."""
UNTRIED = 0.5
"""Share of slates at most in which untried items leave no place to those that compete."""
_NONE = np.zeros(0, np.int64)
_CHANCES = 1  # so that a policy draws other numbers by the same seed


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of a batch.

    drawn : rows of each request of which the one that suits best is on trial; none where nothing is
    positions : (B,) int64, where it stands; k : (B,) int64, how long the slates are
    """

    drawn: SparseRows
    positions: NDArray[np.int64]
    k: NDArray[np.int64]

    def columns(self, scores: Scores) -> NDArray[np.int64]:
        """Return (B,) int64, the candidate of each request that is on trial, -1 = none.

        What is among the best anyway needs no trial, and is not to be put lower for one.
        """
        found = np.empty(len(self.k), np.int64)
        _first(scores.rows, scores.valid, self.drawn.bounds, self.drawn.rows, self.k, found)
        return found


# It takes a microsecond a request, and so keeps the interpreter.
@numba.njit(cache=True)
def _first(rows, valid, bounds, drawn, k, out):  # type: ignore[no-untyped-def]
    """Write the first column of each request, the best, that was drawn; -1 if it is among the first k."""
    for b in range(len(out)):
        out[b] = -1
        some = drawn[bounds[b] : bounds[b + 1]]
        for column in range(rows.shape[1] if len(some) else 0):
            if valid[b, column] and (some == rows[b, column]).any():
                out[b] = column if column >= k[b] else -1
                break


def warm() -> None:
    """Compile the kernel, or load it from the cache."""
    one = np.zeros((1, 1), np.int64)
    row = SparseRows.of([one[0]])
    _first(one, np.ones((1, 1), np.bool_), row.bounds, row.rows, one[0], one[0].copy())


class Newcomers:
    """Knows which items are new, and draws those on trial. One thread at a time."""

    def __init__(
        self, settings: Settings, index: ItemIndex, catalogue: Catalogue, counts: TrialCounts, clock: Clock
    ) -> None:
        self._settings = settings
        self._index, self._catalogue = index, catalogue
        self._trial_counts = counts
        self._clock = clock
        self._random = np.random.default_rng(settings.seed)
        self._unproven, self._contenders = _NONE, [_NONE] * DRAWS
        self._contend = False  # whether anything does
        self._good_until = -math.inf

    def of(
        self,
        requests: Sequence[Request],
        allowed: Allowed,
        likes: NDArray[np.float32],
        seeds: NDArray[np.uint64],
    ) -> Trials | None:
        """Draw the trials of a batch; None where there are none.

        Parameters
        ----------
        likes : (N,) positive events of each item, those that count
        seeds : (B,) of the requests
        """
        share = self._settings.trial_share
        if not share:
            return None
        self._look(likes[: len(allowed.eligible)], max(request.timestamp_ms for request in requests))
        if not len(self._unproven) and not self._contend:
            return None
        drawn, positions = [_NONE] * len(requests), [0] * len(requests)
        for b, (request, seed) in enumerate(zip(requests, seeds.tolist(), strict=True)):
            chance = xxhash.xxh3_64_intdigest(seed.to_bytes(8, "little"), seed=_CHANCES) / 2.0**64
            contend = self._contend and request.k > 1  # the first place is for the best
            most_untried = UNTRIED if contend else 1.0
            untried = chance < min(share * request.k, most_untried) and len(self._unproven) > 0
            if not untried and not contend:
                continue
            random = Random(seed)
            positions[b] = random.randrange(request.k // 2, request.k)
            if untried:
                most = SUITABLE if random.random() < 0.5 else 1
                rows = self._some(self._untried(allowed.limited[b]), random, b, request, allowed)
            else:
                rows, most = self._contenders[random.randrange(DRAWS)], CONTENDERS
                rows = self._permitted(rows, b, request, allowed) if len(rows) else rows
            drawn[b] = rows[:most]
        if not any(map(len, drawn)):
            return None
        k = np.array([request.k for request in requests], np.int64)
        return Trials(SparseRows.of(drawn), np.array(positions, np.int64), k)

    def _untried(self, limit: NDArray[np.int32] | None) -> Rows:
        """Untried items, of those that a request is limited to: among all, few of these might be drawn."""
        if limit is None:
            return self._unproven
        rows = self._unproven
        if len(limit) < len(rows):  # either ascends, and the fewer are looked up among the more
            return limit[is_among(limit, rows)].astype(np.int64)
        return rows[is_among(rows, limit)]

    def _some(self, rows: Rows, random: Random, b: int, request: Request, allowed: Allowed) -> Rows:
        """Draw items that a request may be given: of a few, or of all where it may be given none of these.

        Most may be locked, or have spent their budget.
        """
        few = _sample(rows, random)
        found = self._permitted(few, b, request, allowed)
        if len(found) or len(few) == len(rows):
            return found
        rows = rows[rows < len(allowed.eligible)]
        return _sample(self._permitted(rows[allowed.eligible[rows]], b, request, allowed), random)

    def _permitted(self, rows: Rows, b: int, request: Request, allowed: Allowed) -> Rows:
        age_ms = request.timestamp_ms - self._catalogue.since_ms(rows)
        rows = rows[(age_ms >= 0) & (age_ms < self._settings.fresh_ms)]
        return rows[allowed.permits(b, rows, seen=False)]

    def _look(self, likes: NDArray[np.float32], now_ms: int) -> None:
        """Find the new items, and draw the rates of those that were shown: see `MAX_AGE_S` and `SHARE`.

        Others are given of them until the next look, so they are not only those that the users of one batch
        may be given.
        """
        if (began := self._clock.monotonic()) < self._good_until:
            return
        open_ = np.zeros(len(likes), np.bool_)
        self._catalogue.eligible(now_ms, open_)
        rows = np.flatnonzero(open_)
        rows = rows[self._catalogue.since_ms(rows) > now_ms - self._settings.fresh_ms]
        shown, taken = self._counts(rows)
        proven = shown >= ENOUGH
        self._unproven = rows[~proven & (likes[rows] < self._settings.trial_likes)]
        at = np.flatnonzero(proven)
        if len(at) > DRAWN:
            at = self._random.choice(at, DRAWN, replace=False)
        self._contenders = self._drawn(rows[at], shown[at], taken[at])
        self._contend = any(map(len, self._contenders))
        ended = self._clock.monotonic()
        self._good_until = ended + max(MAX_AGE_S, SHARE * (ended - began))

    def _counts(self, rows: Rows) -> tuple[Rows, Rows]:
        """How often items were shown and taken: (n,) int64 each."""
        counts = np.zeros((2, len(rows)), np.int64)
        tried = self._index.known_rows(self._trial_counts.items)
        at = np.searchsorted(rows, tried)
        inside = at < len(rows)
        inside[inside] = rows[at[inside]] == tried[inside]
        ids = self._index.ids
        counts[:, at[inside]] = (
            np.array(self._trial_counts.of(ids[row] for row in tried[inside].tolist()), np.int64)
            .reshape(-1, 2)
            .T
        )
        return counts[0], counts[1]

    def _drawn(self, rows: Rows, shown: Rows, taken: Rows) -> list[Rows]:
        """Return, of each of `DRAWS` draws of rates, items above the rate of others, the best first.

        They are more than compete: not everybody may be given each.
        """
        if not len(rows):
            return [_NONE] * DRAWS
        usual = self._trial_counts.usual
        rates = self._random.beta(
            usual * PRIOR_SHOWN + taken, (1 - usual) * PRIOR_SHOWN + np.maximum(shown - taken, 0),
            (DRAWS, len(rows)),
        )  # fmt: skip
        best = np.argsort(-rates, axis=1)[:, :LOOKED_AT]
        return [rows[of[draw[of] > usual]] for of, draw in zip(best, rates, strict=True)]


def _sample(rows: Rows, random: Random) -> Rows:
    return rows[random.sample(range(len(rows)), min(LOOKED_AT, len(rows)))]
