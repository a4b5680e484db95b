"""Held-out quality of a release, with the baselines that it has to beat on the same split.

Each user who has a positive item both before and after the split is asked once, at the moment of the
split, for ten items that they have not met; what they respond to afterwards is the truth. All items of the
catalogue are ranked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from model_core.data.batches import ItemBatch
from model_core.evaluation.topn import paired_difference, ranking_metrics, top_items
from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import Replay, item_batch
from model_core.release.scorer import Scorer
from model_core.signals.cold_start import extend_ease
from model_core.signals.ease import Ease
from model_core.signals.horizons import HALF_LIVES_MS
from model_core.signals.sample_signals import Log

TOP = 10
MAX_CELLS = 64_000_000
"""Users times items that are asked about at most; of more users some are, spread evenly."""
KNN_BLOCK = 512
CHOOSING = 0.1
"""Share of what lies before a split by which the half-life of popularity is chosen."""
BASELINES = ("popularity", "recent popularity", "item-kNN", "co-visits", "EASE")
RELEASE = "slatestream"
"""Name of the release among the models that are compared."""


@dataclass(frozen=True, slots=True)
class Truth:
    """users : (n,) int32; relevant : (n, n_items) bool, positive after the split and not met before it."""

    users: NDArray[np.int32]
    relevant: NDArray[np.bool_]


def future(log: Log, split: int, *, stop: int | None = None, newcomers: bool = False) -> Truth:
    """Truth of the rows from `split` to `stop`; with newcomers, also of users without a positive before."""

    def pairs(rows: slice) -> NDArray[np.int64]:
        return log.users[rows].astype(np.int64) * log.n_items + log.items[rows]

    positive = log.positive[split:stop]
    after = np.setdiff1d(pairs(slice(split, stop))[positive], pairs(slice(0, split)))
    owner, item = after // log.n_items, after % log.n_items
    users = np.unique(owner).astype(np.int32)
    if not newcomers:
        users = users[np.isin(users, log.users[:split][log.positive[:split]])]
    most = max(1, MAX_CELLS // max(log.n_items, 1))
    users = users[np.unique(np.linspace(0, len(users) - 1, min(most, len(users))).astype(np.int64))]
    relevant = np.zeros((len(users), log.n_items), np.bool_)
    asked = np.isin(owner, users)
    relevant[np.searchsorted(users, owner[asked]), item[asked]] = True
    return Truth(users, relevant)


def measure(top: NDArray[np.int64], relevant: NDArray[np.bool_]) -> dict[str, float]:
    """Mean Recall@10 and NDCG@10 of top (n, 10) item rows, best first; of shorter lists, at their length."""
    if not len(top):
        return {"recall@10": 0.0, "ndcg@10": 0.0}
    found = ranking_metrics(top, relevant)
    return {"recall@10": float(found["recall"].mean()), "ndcg@10": float(found["ndcg"].mean())}


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
    return np.broadcast_to(counts.astype(np.float32), (len(users), log.n_items))


def recent_popularity(log: Log, split: int, users: NDArray[np.int32]) -> NDArray[np.float32]:
    """Positive events before the split, decayed with time, for every user alike: (n, n_items).

    The half-life, of those of `horizons`, is what ranks best at the end of what lies before the split.
    """
    middle = int((1.0 - CHOOSING) * split)
    truth = future(log, middle, stop=split)
    met = np.zeros((len(truth.users), log.n_items), np.bool_)
    earlier = np.flatnonzero(np.isin(log.users[:middle], truth.users) & (log.items[:middle] < log.n_items))
    met[np.searchsorted(truth.users, log.users[earlier]), log.items[earlier]] = True

    def reached(half_life_ms: int) -> float:
        scores = np.broadcast_to(_decayed(log, middle, half_life_ms), met.shape)
        return measure(top_items(scores, met, min(TOP, log.n_items)), truth.relevant)["ndcg@10"]

    chosen = max(reversed(HALF_LIVES_MS), key=reached)
    return np.broadcast_to(_decayed(log, split, chosen), (len(users), log.n_items))


def _decayed(log: Log, split: int, half_life_ms: int) -> NDArray[np.float32]:
    rows = np.flatnonzero(log.positive[:split] & (log.items[:split] < log.n_items))
    age_ms = log.times_ms[min(split, len(log) - 1)] - log.times_ms[rows]
    left = np.bincount(log.items[rows], np.exp2(-age_ms / half_life_ms), minlength=log.n_items)
    return left.astype(np.float32)


def item_knn(log: Log, split: int, users: NDArray[np.int32], *, neighbours: int = 50) -> NDArray[np.float32]:
    """Item-based nearest neighbours (Sarwar et al. 2001): cosine between items' positive users."""
    liked = np.flatnonzero(log.positive[:split])
    pairs = np.unique(log.users[liked].astype(np.int64) * log.n_items + log.items[liked])
    met = sparse.csr_matrix(
        (np.ones(len(pairs), np.float32), (pairs // log.n_items, pairs % log.n_items)),
        (log.n_users, log.n_items),
    )
    by_item, norm = met.T.tocsr(), np.sqrt(np.bincount(pairs % log.n_items, minlength=log.n_items)) + 1e-9
    norm, similar = norm.astype(np.float32), []
    for begin in range(0, log.n_items, KNN_BLOCK):  # nothing is of every item and every item
        rows = np.arange(begin, min(begin + KNN_BLOCK, log.n_items))
        part = (by_item[rows] @ met).toarray() / norm[rows, None] / norm
        part[np.arange(len(rows)), rows] = 0.0
        if neighbours < log.n_items:
            least = np.partition(part, -neighbours, axis=1)[:, -neighbours, None]
            part[part < least] = 0.0
        similar.append(sparse.csr_matrix(part))
    scores: NDArray[np.float32] = (met[users] @ sparse.vstack(similar).tocsr()).toarray()
    return scores


def release_rows(scorer: Scorer, corpus: Corpus) -> NDArray[np.int64]:
    """Row that the release has for each item of a corpus: (n_items,) int64, 0 = unknown to it."""
    rows = scorer.release.item_rows
    return np.array([rows.get(name, 0) for name in corpus.vocabulary.item_rows], np.int64)


def ease_by_rows(ease: Ease, rows: NDArray[np.int64]) -> Ease:
    """The same weights, by a corpus's rows; items unknown to the release have none.

    Parameters
    ----------
    rows : (n_items,) int64, of `release_rows`
    """
    if np.array_equal(rows, np.arange(1, ease.n_items + 1)):
        return ease
    n = ease.n_items
    bounds = np.append(ease.bounds, ease.bounds[-1])  # one more row and column, which are empty
    matrix = sparse.csr_matrix((ease.weights, ease.items, bounds), (n + 1, n + 1))
    at = np.where(rows > 0, rows - 1, n)
    chosen = matrix[at][:, at].sorted_indices()
    return Ease(chosen.indptr.astype(np.int64), chosen.indices.astype(np.int32), chosen.data)


def start_replay(
    scorer: Scorer,
    corpus: Corpus,
    *,
    new: NDArray[np.bool_] | None = None,
    keys: NDArray[np.uint64] | None = None,
) -> tuple[Replay, NDArray[np.float32]]:
    """Get ready to serve a corpus's log by a release: its replay, and the item matrix.

    Parameters
    ----------
    new : (n_items,) bool
        Items whose ids the release is not to know even if it does.
    keys : (n,) uint64
        Of the items; see `CovisitReplay`.
    """
    release = scorer.release
    rows = release_rows(scorer, corpus)
    batch = item_batch(corpus)
    batch = replace(
        batch,
        image=_fit_width("image", batch.image, release.image_dim),
        audio=_fit_width("audio", batch.audio, release.audio_dim),
        id_rows=rows if new is None else np.where(new, 0, rows),
    )
    replay = Replay(
        corpus.log,
        corpus.edges,
        corpus.stated,
        history_length=release.history_length,
        n_affinities=release.n_affinities,
        signals=release.signals,
        ease=_ease_of(scorer, batch, rows),
        keys=keys,
    )
    return replay, scorer.encode_items(batch)


def _ease_of(scorer: Scorer, items: ItemBatch, rows: NDArray[np.int64]) -> Ease:
    """EASE by a corpus's rows; items unknown to the release have the weights of new ones."""
    ease, unknown = ease_by_rows(scorer.ease, rows), np.flatnonzero(rows == 0)
    if not len(unknown):
        return ease
    known = np.flatnonzero(rows)
    weights = np.zeros((len(rows), len(unknown)), np.float32)
    weights[known] = (scorer.mapping.places(items)[unknown] @ scorer.mapping.weights[:, rows[known] - 1]).T
    return extend_ease(ease, weights, unknown)


def _fit_width(kind: str, vectors: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Embeddings as the release takes them: zero, which its mask calls missing, where a corpus has none."""
    if not vectors.shape[1]:
        return np.zeros((len(vectors), width), np.float32)
    if width and vectors.shape[1] != width:
        raise ValueError(f"{kind} embeddings must have the release's width {width}, got {vectors.shape[1]}")
    return vectors


@dataclass(frozen=True, slots=True)
class Ranked:
    """Lists of the truth's users, and how probable the release held its candidates.

    tops : model -> (n, k) int64 item rows, best first; where a user has met nearly all items, met ones fill
        the tail
    probability, relevant : (c,) float32 and bool, of all candidates of all users
    served : (s,) float32, the probability of each item that the release lists
    """

    tops: dict[str, NDArray[np.int64]]
    probability: NDArray[np.float32]
    relevant: NDArray[np.bool_]
    served: NDArray[np.float32]


def rank(
    scorer: Scorer,
    replay: Replay,
    vectors: NDArray[np.float32],
    truth: Truth,
    *,
    k: int = TOP,
    among: NDArray[np.bool_] | None = None,
    baselines: bool = True,
    batch: int = 32,
    report: Callable[[float], None] = lambda done: None,
) -> Ranked:
    """Ask the release and the `BASELINES`, as of the replay's position, for the k best items of each user.

    A baseline that knows nothing of a user goes by popularity. EASE is the release's, with its low pass.

    Parameters
    ----------
    among : (n_items,) bool
        Items to choose from; all by default.
    """
    log, split = replay.log, replay.position
    moment = int(log.times_ms[min(split, len(log) - 1)])
    barred = replay.met(truth.users)
    if among is not None:
        barred = barred | ~among
    tops: dict[str, NDArray[np.int64]] = {}
    if baselines:
        popular = popularity(log, split, truth.users)
        for name, scores in zip(BASELINES, _baselines(replay, split, truth.users, popular), strict=True):
            unknown = ~scores.any(1)
            tops[name] = top_items(scores, barred, k)
            tops[name][unknown] = top_items(popular[unknown], barred[unknown], k)
    parts = [np.zeros((0, k), np.int64)]
    probability, relevant = [np.zeros(0, np.float32)], [np.zeros(0, np.bool_)]
    served = [np.zeros(0, np.float32)]
    for begin in range(0, len(truth.users), batch):
        users = truth.users[begin : begin + batch]
        request = replay.requests(users, np.full(len(users), moment))
        if among is not None:
            request = replace(request, eligible=among)
        ranked = scorer.score(request, vectors)
        spare = barred[begin : begin + batch].argmax(1)
        parts.append(np.where(ranked.valid, ranked.rows, spare[:, None])[:, :k])
        probability.append(ranked.scores[ranked.valid])
        served.append(ranked.scores[:, :k][ranked.valid[:, :k]])
        of_user, at = np.nonzero(ranked.valid)
        relevant.append(truth.relevant[begin + of_user, ranked.rows[of_user, at]])
        report(min(1.0, (begin + batch) / len(truth.users)))
    tops[RELEASE] = np.concatenate(parts)
    return Ranked(tops, np.concatenate(probability), np.concatenate(relevant), np.concatenate(served))


def _baselines(
    replay: Replay, split: int, users: NDArray[np.int32], popular: NDArray[np.float32]
) -> Iterator[NDArray[np.float32]]:
    """Give the scores of each of the `BASELINES` as of the split, one after another: (n, n_items)."""
    yield popular
    yield recent_popularity(replay.log, split, users)
    yield item_knn(replay.log, split, users)
    request = replay.requests(users, np.zeros(len(users), np.int64))
    signals = request.signals
    owner = np.repeat(np.arange(len(users)), np.diff(signals.bounds))
    for values in request.signal_values.T:
        scores = np.zeros((len(users), replay.log.n_items), np.float32)
        scores[owner, signals.rows] = values
        yield scores


@dataclass(frozen=True, slots=True)
class Comparison:
    """A release's metrics beside the baselines', on the same users.

    metrics : by model; `users` counts who was asked. Of a baseline `lead_low` and `lead_high` bound the
        release's NDCG@10 less the baseline's on the same users, with 95 % confidence; absent with one user
    by_popularity : by model, see `recall_by_popularity`
    probability, relevant : (n,) float32 and bool, of all candidates of all users
    served_probability : mean probability of the items that the release lists; None where it is none in (0, 1)
    """

    metrics: dict[str, dict[str, float]]
    by_popularity: dict[str, list[float]]
    probability: NDArray[np.float32]
    relevant: NDArray[np.bool_]
    served_probability: float | None


def lead(ours: NDArray[np.int64], theirs: NDArray[np.int64], relevant: NDArray[np.bool_]) -> dict[str, float]:
    """Bound the mean NDCG@10 of our lists less that of theirs, on the same users; nothing for one user."""
    if len(relevant) < 2:
        return {}
    mine, other = (ranking_metrics(top, relevant)["ndcg"][None] for top in (ours, theirs))
    found = paired_difference(mine, other)
    return {"lead_low": found.low, "lead_high": found.high}


def compare(scorer: Scorer, corpus: Corpus, split: int, *, batch: int = 32) -> Comparison:
    """Measure the release and the baselines on what follows the split.

    Items first met after the split are in the catalogue, as new content would be, though training knew
    their texts and edges only.
    """
    log = corpus.log
    truth = future(log, split)
    replay, vectors = start_replay(scorer, corpus)
    replay.advance(split)
    ranked = rank(scorer, replay, vectors, truth, k=min(TOP, log.n_items), batch=batch)
    served = float(ranked.served.mean(dtype=np.float64)) if len(ranked.served) else 0.0
    liked = np.bincount(log.items[:split][log.positive[:split]], minlength=log.n_items).astype(np.float32)
    return Comparison(
        metrics={
            name: {**measure(top, truth.relevant), "users": float(len(truth.users))}
            | ({} if name == RELEASE else lead(ranked.tops[RELEASE], top, truth.relevant))
            for name, top in ranked.tops.items()
        },
        by_popularity={
            name: recall_by_popularity(top, truth.relevant, liked)
            for name, top in ranked.tops.items()
            if name in ("popularity", "item-kNN", RELEASE)
        },
        probability=ranked.probability,
        relevant=ranked.relevant,
        served_probability=served if 0.0 < served < 1.0 else None,
    )
