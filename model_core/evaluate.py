"""Held-out quality of a release, with the baselines that it has to beat on the same split.

Each user who has a positive item both before and after the split is asked once, at the moment of the
split, for ten items that they have not met; what they respond to afterwards is the truth. All items of the
catalogue are ranked.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.corpus import Corpus
from model_core.replay import Replay, item_batch
from model_core.scorer import Scorer
from model_core.signals import Log, SignalConfig

TOP = 10


@dataclass(frozen=True, slots=True)
class Truth:
    """users : (n,) int32; relevant : (n, n_items) bool, positive after the split and not met before it."""

    users: NDArray[np.int32]
    relevant: NDArray[np.bool_]


def future(log: Log, split: int, *, stop: int | None = None) -> Truth:
    """Truth of the rows from `split` to `stop`."""
    before = np.zeros((log.n_users, log.n_items), np.bool_)
    before[log.users[:split], log.items[:split]] = True
    warm = np.zeros(log.n_users, np.bool_)
    warm[log.users[:split][log.positive[:split]]] = True
    later = slice(split, stop)
    after = np.zeros_like(before)
    positive = log.positive[later]
    after[log.users[later][positive], log.items[later][positive]] = True
    after &= ~before
    users = np.flatnonzero(warm & after.any(1)).astype(np.int32)
    return Truth(users, after[users])


def measure(top: NDArray[np.int64], relevant: NDArray[np.bool_]) -> dict[str, float]:
    """Mean Recall@10 and NDCG@10 of top (n, 10) item rows, best first."""
    if not len(top):
        return {"recall@10": 0.0, "ndcg@10": 0.0}
    hits = np.take_along_axis(relevant, top, 1)
    total = relevant.sum(1)
    discount = 1.0 / np.log2(np.arange(TOP) + 2.0)
    ideal = np.cumsum(discount)[np.minimum(total, TOP) - 1]
    return {
        "recall@10": float((hits.sum(1) / total).mean()),
        "ndcg@10": float(((hits * discount).sum(1) / ideal).mean()),
    }


def recall_by_popularity(
    top: NDArray[np.int64], relevant: NDArray[np.bool_], counts: NDArray[np.float32], *, buckets: int = 5
) -> list[float]:
    """Share of the relevant items that were found, by how popular the item is; rarest first.

    The buckets hold about equally many positive events before the split each.

    Parameters
    ----------
    top : (n, 10) int64, relevant : (n, n_items) bool, counts : (n_items,) float32
    """
    order = np.argsort(counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order] / 2
    bucket = np.empty(len(counts), np.int64)
    bucket[order] = np.minimum(buckets * before / max(float(counts.sum()), 1.0), buckets - 1).astype(np.int64)
    hits = np.take_along_axis(relevant, top, 1)
    found = np.bincount(bucket[top[hits]], minlength=buckets)
    wanted = np.bincount(bucket[np.nonzero(relevant)[1]], minlength=buckets)
    return [float(value) for value in found / np.maximum(wanted, 1)]


def popularity(log: Log, split: int, users: NDArray[np.int32]) -> NDArray[np.float32]:
    """Positive events of each item before the split, for every user alike: (n, n_items)."""
    counts = np.bincount(log.items[:split][log.positive[:split]], minlength=log.n_items)
    return np.tile(counts.astype(np.float32), (len(users), 1))


def item_knn(log: Log, split: int, users: NDArray[np.int32], *, neighbours: int = 50) -> NDArray[np.float32]:
    """Item-based nearest neighbours (Sarwar et al. 2001): cosine between items' positive users."""
    met = np.zeros((log.n_users, log.n_items), np.float32)
    positive = log.positive[:split]
    met[log.users[:split][positive], log.items[:split][positive]] = 1.0
    together = met.T @ met
    norm = np.sqrt(together.diagonal()) + 1e-9
    similar = together / norm[:, None] / norm[None, :]
    np.fill_diagonal(similar, 0.0)
    if neighbours < log.n_items:
        least = np.partition(similar, -neighbours, axis=1)[:, -neighbours, None]
        similar[similar < least] = 0.0
    scores: NDArray[np.float32] = met[users] @ similar
    return scores


def start_replay(scorer: Scorer, corpus: Corpus) -> tuple[Replay, NDArray[np.float32]]:
    """Get ready to serve a corpus's log by a release: its replay, and the item matrix."""
    release = scorer.release
    replay = Replay(
        corpus.log,
        corpus.edges,
        history_length=release.history_length,
        n_affinities=release.n_affinities,
        signals=SignalConfig(**release.signals),
        ease=scorer.ease,
    )
    return replay, scorer.encode_items(item_batch(corpus))


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a release and the baselines do on the same users.

    metrics : by model; `users` counts who was asked
    by_popularity : by model, see `recall_by_popularity`
    probability, relevant : (n,) float32 and bool, of all candidates of all users
    """

    metrics: dict[str, dict[str, float]]
    by_popularity: dict[str, list[float]]
    probability: NDArray[np.float32]
    relevant: NDArray[np.bool_]


def compare(scorer: Scorer, corpus: Corpus, split: int, *, batch: int = 32) -> Comparison:
    """Measure the release and the baselines on what follows the split.

    Items first met after the split are in the catalogue, as new content would be, though training knew
    their texts and edges only.
    """
    log = corpus.log
    truth = future(log, split)
    replay, vectors = start_replay(scorer, corpus)
    replay.advance(split)
    moment = int(log.times_ms[min(split, len(log) - 1)])
    seen = replay.state.seen[truth.users]
    tops: dict[str, NDArray[np.int64]] = {}
    for name, scores in (
        ("popularity", popularity(log, split, truth.users)),
        ("item-kNN", item_knn(log, split, truth.users)),
        ("co-visits", replay.state.read(truth.users)[:, 0]),
    ):
        tops[name] = np.argsort(np.where(seen, np.inf, -scores), axis=1, kind="stable")[:, :TOP]
    parts = [np.zeros((0, TOP), np.int64)]
    probability, relevant = [np.zeros(0, np.float32)], [np.zeros(0, np.bool_)]
    for begin in range(0, len(truth.users), batch):
        users = truth.users[begin : begin + batch]
        request = replay.requests(users, np.full(len(users), moment))
        ranked = scorer.score(request, vectors)
        parts.append(ranked.rows[:, :TOP])
        probability.append(ranked.scores[ranked.valid])
        of_user, at = np.nonzero(ranked.valid)
        relevant.append(truth.relevant[begin + of_user, ranked.rows[of_user, at]])
    tops["slatestream"] = np.concatenate(parts)
    liked = np.bincount(log.items[:split][log.positive[:split]], minlength=log.n_items).astype(np.float32)
    return Comparison(
        metrics={
            name: {**measure(top, truth.relevant), "users": float(len(truth.users))}
            for name, top in tops.items()
        },
        by_popularity={
            name: recall_by_popularity(top, truth.relevant, liked)
            for name, top in tops.items()
            if name != "co-visits"
        },
        probability=np.concatenate(probability),
        relevant=np.concatenate(relevant),
    )
