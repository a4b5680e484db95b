"""Lists of the best items: metrics of them, and how sure their means are.

The metrics' definitions are those of RecBole's documentation
(https://recbole.io/docs/recbole/recbole.evaluator.metrics.html), and they are means over users. Relations
between users and items are dense bool matrices here, since the scores ranked are dense too.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

BLOCK = 1 << 22
"""Users times items that are ranked at once."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its confidence interval, and the p value of a true mean of zero."""

    mean: float
    low: float
    high: float
    p_value: float


def top_items(scores: NDArray[np.floating], seen: Bools, k: int) -> Rows:
    """Rank the k best items a user has not seen: (n_users, k) rows, best first, ties by row.

    Where fewer than k remain, seen items fill the tail.

    Parameters
    ----------
    scores : (n_users, n_items), finite
    seen : (n_users, n_items) bool

    Raises
    ------
    ValueError
        If k is not in [1, n_items].
    """
    n, n_items = scores.shape
    if not 1 <= k <= n_items:
        raise ValueError(f"k must be in [1, {n_items}], got {k}")
    block = max(1, BLOCK // n_items)  # what lies between is several times as large as the scores
    parts = [_top(scores[at : at + block], seen[at : at + block], k) for at in range(0, n, block)]
    return np.concatenate(parts) if parts else np.zeros((0, k), np.int64)


def _top(scores: NDArray[np.floating], seen: Bools, k: int) -> Rows:
    cost = np.where(seen, np.inf, -scores)
    last = np.partition(cost, k - 1, axis=1)[:, k - 1 : k]
    better, tied = cost < last, cost == last
    chosen = better | (tied & (np.cumsum(tied, axis=1) <= k - better.sum(1, keepdims=True)))
    rows = np.nonzero(chosen)[1].reshape(-1, k)
    order = np.argsort(np.take_along_axis(cost, rows, 1), axis=1, kind="stable")
    return np.take_along_axis(rows, order, 1)


def ranking_metrics(top: Rows, relevant: Bools) -> dict[str, Floats]:
    """Accuracy of each user's list at its length k: recall, ndcg, mrr and hit, each (n_users,).

    With r relevant items: recall is hits / r; ndcg is the sum of 1 / log2(position + 2) over hits, divided by
    that of min(r, k) hits in front; mrr is 1 / (position + 1) of the first hit; hit says if there is one.
    Users without a relevant item have NaN, so take means with `numpy.nanmean`.

    Parameters
    ----------
    top : (n_users, k) item rows, best first
    relevant : (n_users, n_items) bool
    """
    k = top.shape[1]
    hits = np.take_along_axis(relevant, top, 1)
    total = relevant.sum(1)
    count = np.where(total > 0, total, np.nan)
    discount = 1.0 / np.log2(np.arange(k) + 2.0)
    ideal = np.cumsum(discount)[np.clip(total, 1, k) - 1]
    found = np.where(total > 0, hits.any(1), np.nan)
    return {
        "recall": hits.sum(1) / count,
        "ndcg": np.where(total > 0, hits @ discount / ideal, np.nan),
        "mrr": found / (hits.argmax(1) + 1),
        "hit": found,
    }


def coverage(top: Rows, n_items: int) -> float:
    """Share of the catalogue that somebody is recommended."""
    return len(np.unique(top)) / n_items


def gini(top: Rows, n_items: int) -> float:
    """Gini index of how often each item is recommended: 0 is all alike, near 1 is one item for everybody."""
    counts = np.sort(np.bincount(top.ravel(), minlength=n_items))
    rank = np.arange(1, n_items + 1)
    return float(((2 * rank - n_items - 1) * counts).sum() / (n_items * counts.sum()))


def novelty(top: Rows, met: Bools) -> float:
    """Mean self-information in bits, -log2 of the share of users who met the item (Zhou et al. 2010).

    An item that nobody met counts as met by one user.

    Parameters
    ----------
    met : (n_users, n_items) bool, the training part
    """
    share = np.maximum(met.sum(0), 1) / len(met)
    return float(-np.log2(share)[top].mean())


def intra_list_diversity(top: Rows, features: NDArray[np.floating]) -> float:
    """Mean over users of 1 - cosine between the items of a list (Ziegler et al. 2005), k >= 2.

    Parameters
    ----------
    features : (n_items, d); a zero row is unlike everything
    """
    k = top.shape[1]
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(norm > 0, norm, 1.0)
    total = unit[top].sum(1)  # (n_users, d); its square sums the cosines of all ordered pairs and of selves
    selves = (norm[:, 0] > 0)[top].sum(1)
    return float(1.0 - (((total**2).sum(1) - selves) / (k * (k - 1))).mean())


def popularity_buckets(met: Bools, n_buckets: int) -> Rows:
    """Bucket of each item, 0 the least popular, so that each holds about as many interactions: (n_items,)."""
    counts = met.sum(0)
    order = np.argsort(counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    bucket = np.empty(len(counts), np.int64)
    bucket[order] = before * n_buckets // max(int(counts.sum()), 1)
    return np.minimum(bucket, n_buckets - 1)


def estimate(values: NDArray[np.floating], *, level: float = 0.95) -> Estimate:
    """Mean of independent values, e.g. one a seed, with Student's t interval; a single value has none.

    Parameters
    ----------
    values : (n,); NaN is left out

    Raises
    ------
    ValueError
        If there is no value.
    """
    from scipy.special import stdtr, stdtrit  # Student's distribution; `scipy.stats` takes half a second

    values = values[~np.isnan(values)]
    if not len(values):
        raise ValueError("values must hold at least one number, got none")
    mean = float(values.mean())
    if len(values) == 1:
        return Estimate(mean, -np.inf, np.inf, 1.0)
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    half = float(stdtrit(len(values) - 1, 0.5 + level / 2)) * error
    ratio = abs(mean) / error if error > 0 else (np.inf if mean else 0.0)
    return Estimate(mean, mean - half, mean + half, float(2 * stdtr(len(values) - 1, -ratio)))


def bootstrap(
    values: NDArray[np.floating],
    weights: NDArray[np.floating] | None = None,
    *,
    rng: np.random.Generator,
    draws: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Mean over users, sum(values) / sum(weights), with the percentile interval of drawing users anew.

    The p value is the share of draws that lie as far from the mean as the mean from zero, counting the mean
    itself as a draw (Efron & Tibshirani 1993, "An introduction to the bootstrap", sections 13.3 and 16.4).

    Parameters
    ----------
    values : (n,); NaN is left out
    weights : (n,), at least 0; ones by default

    Raises
    ------
    ValueError
        If there is no value, or the weights sum to zero.
    """
    known = ~np.isnan(values)
    weight = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    value, weight = np.asarray(values, np.float64)[known], weight[known]
    n = len(value)
    if not n or weight.sum() <= 0:
        raise ValueError(f"values must hold at least one number with a weight, got {n} without")
    mean = float(value.sum() / weight.sum())
    if n == 1:
        return Estimate(mean, -np.inf, np.inf, 1.0)
    found = []
    chunk = max(1, min(draws, 4_000_000 // n))  # a draw costs n numbers
    for begin in range(0, draws, chunk):
        times = rng.multinomial(n, np.full(n, 1.0 / n), size=min(chunk, draws - begin))
        total = times @ weight
        found.append((times @ value)[total > 0] / total[total > 0])
    means = np.concatenate(found)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    far = np.count_nonzero(np.abs(means - mean) >= abs(mean) - 1e-12)
    return Estimate(mean, float(low), float(high), (far + 1) / (len(means) + 1))


def paired_difference(
    ours: NDArray[np.floating], theirs: NDArray[np.floating], *, level: float = 0.95
) -> Estimate:
    """Compare two models on the same users and seeds: paired t test over users of ours - theirs.

    A user's values are averaged over seeds first: seeds share their users, so they are not independent.

    Parameters
    ----------
    ours, theirs : (n_seeds, n_users) of one metric; NaN where a user was not asked

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"ours and theirs must have one shape, got {ours.shape} and {theirs.shape}")
    difference = ours - theirs
    asked = ~np.isnan(difference)
    known = asked.any(0)
    total = np.where(asked, difference, 0.0).sum(0)[known]
    return estimate(total / asked.sum(0)[known], level=level)
