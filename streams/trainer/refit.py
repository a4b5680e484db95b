"""Works out what slates that other releases made teach of a new one: the same sums, in its own features.

The log is replayed. Before each slate the new release is asked what it makes of the items that were shown,
as a worker with it would have been. What a policy learns is how much each feature counts, whoever chose the
items, so slates of any release and policy teach it.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import SparseRows
from model_core.evaluation.evaluate import start_replay
from model_core.inputs.corpus import Corpus
from model_core.release.scorer import Scorer
from online_learning.policies.registry import Learning
from online_learning.statistics.sums import Statistics
from streams.state.item_index import keys_of
from streams.trainer.shown_slates import Shown

BATCH, STALE = 64, 0.01
"""Slates whose popularity and co-visits are read at one moment, the first's, and by what share the log may
grow meanwhile; each user's past is exact."""
ROUNDS = 3
"""Newton steps, for rows that are developed around the current weights."""


def refit(
    scorer: Scorer, corpus: Corpus, users: Sequence[str], slates: Sequence[Shown], learning: Learning
) -> Statistics:
    """Return the statistics that a policy would have, had these slates been made by this release.

    Items of which the log knows nothing are left out.

    Parameters
    ----------
    users : ids of the users of the corpus's log, by row
    slates : in the order of their times
    """
    rows_of = {user: row for row, user in enumerate(users)}
    described = list(_described(scorer, corpus, rows_of, slates))
    statistics, reference = learning.empty(), None
    for _ in range(ROUNDS):
        if reference is not None:
            statistics = learning.empty()
            statistics.develop_at(reference)
        for slate, features, known in described:
            _add(statistics, slate, features, known)
        if (reference := statistics.next_reference()) is None:
            break
    return statistics


def _add(
    statistics: Statistics, slate: Shown, features: NDArray[np.float32], known: NDArray[np.int64]
) -> None:
    """Add the positions of a slate that are known: (k,) int64, with their features, (k, F) float32."""
    arms, taken = keys_of(slate.item_ids[position] for position in known.tolist()), slate.taken[known]
    times, rows = np.full(len(known), slate.timestamp_ms, np.int64), statistics.rows(features)
    statistics.add_impressions(rows, arms=arms, times_ms=times, weights=slate.weights[known])
    if taken.any():
        values = slate.values[known][taken]
        statistics.add_rewards(rows[taken], values, arms=arms[taken], times_ms=times[taken])


def _described(
    scorer: Scorer, corpus: Corpus, users: Mapping[str, int], slates: Sequence[Shown]
) -> Iterator[tuple[Shown, NDArray[np.float32], NDArray[np.int64]]]:
    """Give each slate, the features of its items, and the positions that these are of."""
    replay, vectors = start_replay(scorer, corpus)
    rows = corpus.vocabulary.item_rows
    every_time = np.array([slate.timestamp_ms for slate in slates], np.int64)
    every_row = np.searchsorted(corpus.log.times_ms, every_time)
    begin = 0
    while begin < len(slates):
        last_row = (1.0 + STALE) * every_row[begin]
        end = min(begin + BATCH, int(np.searchsorted(every_row, last_row, side="right")))
        part, times, before = slates[begin:end], every_time[begin:end], every_row[begin:end]
        begin = end
        replay.advance(int(before[0]))
        who = np.array([users.get(slate.user_id, -1) for slate in part], np.int32)
        items = [np.array([rows.get(item, 0) - 1 for item in slate.item_ids], np.int32) for slate in part]
        wanted = SparseRows.of([of_slate[of_slate >= 0] for of_slate in items])
        found = scorer.score(replay.requests(who, times, before=before).only(wanted), vectors)
        for b, (slate, of_slate) in enumerate(zip(part, items, strict=True)):
            same = (of_slate[:, None] == found.rows[b]) & found.valid[b]
            known, column = np.nonzero(same)
            if len(known):
                yield slate, found.features[b, column], known
