"""A release measured in full on what follows its split by time, beside the baselines it has to beat.

Every user with a positive item later is asked once, at the moment of the split, for k items not met before;
all items of the catalogue compete. The headline is of users with a positive item before the split; users who
are new then are a slice of their own. Items that nobody had met are served without their ids, as new content
would be. Intervals and p values are bootstraps over users.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.evaluation.evaluate import Ranked, Truth, future, rank, release_rows, start_replay
from model_core.evaluation.slices import HISTORY, history_slice, new_items, popularity_slice
from model_core.evaluation.topn import (
    Estimate,
    bootstrap,
    coverage,
    gini,
    intra_list_diversity,
    novelty,
    ranking_metrics,
)
from model_core.inputs.corpus import Corpus
from model_core.release.folder import Release
from model_core.release.scorer import Scorer

OURS = "slatestream"
METRICS = ("recall", "ndcg", "mrr", "hit")

Values = dict[str, dict[str, NDArray[np.float64]]]
"""By model and metric, a value a user."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The release's advantage over the best baseline in one metric, paired over users."""

    baseline: str
    gain: Estimate


@dataclass(frozen=True, slots=True)
class Slice:
    """Recall of a part, by model; `size` counts its users, or its pairs of a user and an item wanted."""

    label: str
    size: int
    recall: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class NewItems:
    """Items nobody had met: their share of the lists, and recall among themselves beside that of chance."""

    items: int
    share: float
    users: int
    recall: Estimate | None
    chance: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one release on one split.

    users counts those of the headline, newcomers those without a positive item before the split; by_history
    is of both.
    """

    k: int
    split: int
    events: int
    users: int
    newcomers: int
    items: int
    accuracy: dict[str, dict[str, Estimate]]
    difference: dict[str, Difference]
    beyond: dict[str, dict[str, float]]
    by_popularity: list[Slice]
    by_history: list[Slice]
    new_items: NewItems


def choose_split(release: Release, corpus: Corpus, rows: NDArray[np.int64], until: float | None) -> int:
    """Row of the log from which on a release may be tested: where its training ended, or later.

    Parameters
    ----------
    rows : (n_items,) int64, of `model_core.evaluation.evaluate.release_rows`
    until
        Fraction of the log, in (0, 1), to begin at.

    Raises
    ------
    ValueError
        If the release knows what it would be tested on, was trained on other data, or nothing follows.
    """
    log, n = corpus.log, len(corpus.log)
    trained = int(release.training.get("interactions", 0))
    if not trained:
        raise ValueError(f"release {release.version} must say how many interactions it knows, and does not")
    unknown = np.flatnonzero(rows[log.items[:trained]] == 0)
    if len(unknown):
        name = list(corpus.vocabulary.item_rows)[log.items[unknown[0]]]
        raise ValueError(
            f"data must be what the release was trained on, up to interaction {trained}: it does not know "
            f"the item {name!r} of interaction {unknown[0] + 1}"
        )
    if until is not None and not 0.0 < until < 1.0:
        raise ValueError(f"until must be in (0, 1), got {until}")
    split = trained if until is None else int(until * n)
    if split < trained:
        raise ValueError(
            f"until must be at least {np.ceil(1000 * trained / n) / 1000:g}, got {until}: the release was "
            f"trained on {trained} of {n} interactions"
        )
    if split >= n:
        raise ValueError(f"data must hold more than the {trained} interactions trained on, got {n}")
    return split


def evaluate_release(
    scorer: Scorer,
    corpus: Corpus,
    *,
    until: float | None = None,
    k: int = 10,
    features: NDArray[np.floating] | None = None,
    rng: np.random.Generator,
    draws: int = 2000,
    report: Callable[[float], None] = lambda done: None,
) -> Evaluation:
    """Measure a release on what follows its split.

    Parameters
    ----------
    corpus
        Made with the release's vocabulary as `known`.
    until
        See `choose_split`.
    features : (n_items, d)
        What items have in common; without it no diversity is measured.
    rng, draws
        Of the bootstrap.

    Raises
    ------
    ValueError
        If k is out of range, the split is not possible, or nobody responds to anything after it.
    """
    log, release = corpus.log, scorer.release
    most = min(release.n_candidates, log.n_items)
    if not 1 <= k <= most:
        raise ValueError(f"k must be in [1, {most}], got {k}")
    split = choose_split(release, corpus, release_rows(scorer, corpus), until)
    truth = future(log, split, newcomers=True)
    warm = np.isin(truth.users, log.users[:split][log.positive[:split]])
    if not warm.any():
        raise ValueError(
            f"a user must respond to something both before and after interaction {split}, got none of "
            f"{log.n_users} users"
        )
    new = new_items(log, split)
    replay, vectors = start_replay(scorer, corpus, new=new)
    replay.advance(split)
    ranked = rank(scorer, replay, vectors, truth, k=k, report=lambda done: report(0.7 * done))
    values = {name: ranking_metrics(top, truth.relevant) for name, top in ranked.tops.items()}
    accuracy = {
        name: {metric: bootstrap(of[metric][warm], rng=rng, draws=draws) for metric in METRICS}
        for name, of in values.items()
    }
    report(0.8)
    met = replay.met(np.arange(log.n_users, dtype=np.int32))
    met = met[met.any(1)]
    beyond = {name: _beyond(top[warm], met, features) for name, top in ranked.tops.items()}
    by_popularity = _by_popularity(ranked, truth, warm, *popularity_slice(log, split), rng, draws)
    report(0.9)
    by_history = _by_history(values, history_slice(log, split, truth.users), rng, draws)
    among = _responses_to(truth, new)
    recall = None
    if len(among.users):
        only = rank(scorer, replay, vectors, among, k=k, among=new, baselines=False).tops[OURS]
        recall = bootstrap(ranking_metrics(only, among.relevant)["recall"], rng=rng, draws=draws)
    count = int(new.sum())
    report(1.0)
    return Evaluation(
        k=k,
        split=split,
        events=len(log),
        users=int(warm.sum()),
        newcomers=int((~warm).sum()),
        items=log.n_items,
        accuracy=accuracy,
        difference=_differences(values, accuracy, warm, rng, draws),
        beyond=beyond,
        by_popularity=by_popularity,
        by_history=by_history,
        new_items=NewItems(
            count, float(new[ranked.tops[OURS]].mean()), len(among.users), recall, min(1.0, k / max(count, 1))
        ),
    )


def _responses_to(truth: Truth, items: NDArray[np.bool_]) -> Truth:
    """Return the users who respond to some of the items, and their responses to these."""
    relevant = truth.relevant & items
    wanted = relevant.any(1)
    return Truth(truth.users[wanted], relevant[wanted])


def _differences(
    values: Values,
    accuracy: dict[str, dict[str, Estimate]],
    warm: NDArray[np.bool_],
    rng: np.random.Generator,
    draws: int,
) -> dict[str, Difference]:
    found = {}
    for metric in METRICS:
        means = {name: of[metric].mean for name, of in accuracy.items() if name != OURS}
        best = max(means, key=means.__getitem__)
        gain = (values[OURS][metric] - values[best][metric])[warm]
        found[metric] = Difference(best, bootstrap(gain, rng=rng, draws=draws))
    return found


def _beyond(
    top: NDArray[np.int64], met: NDArray[np.bool_], features: NDArray[np.floating] | None
) -> dict[str, float]:
    found = {
        "coverage": coverage(top, met.shape[1]),
        "gini": gini(top, met.shape[1]),
        "novelty": novelty(top, met),
    }
    if features is not None and top.shape[1] > 1:
        found["diversity"] = intra_list_diversity(top, features)
    return found


def _by_popularity(
    ranked: Ranked,
    truth: Truth,
    warm: NDArray[np.bool_],
    labels: Sequence[str],
    bucket: NDArray[np.int64],
    rng: np.random.Generator,
    draws: int,
) -> list[Slice]:
    slices = []
    for place, label in enumerate(labels):
        relevant = truth.relevant[warm] & (bucket == place)
        wanted = relevant.sum(1)
        if not wanted.any():
            continue
        recall = {
            name: bootstrap(
                np.take_along_axis(relevant, top[warm], 1).sum(1).astype(np.float64),
                wanted,
                rng=rng,
                draws=draws,
            )
            for name, top in ranked.tops.items()
        }
        slices.append(Slice(label, int(wanted.sum()), recall))
    return slices


def _by_history(
    values: Values, place: NDArray[np.int64], rng: np.random.Generator, draws: int
) -> list[Slice]:
    return [
        Slice(
            label,
            int((place == at).sum()),
            {name: bootstrap(of["recall"][place == at], rng=rng, draws=draws) for name, of in values.items()},
        )
        for at, label in enumerate(HISTORY)
        if (place == at).any()
    ]
