"""Impressions: how well scores put the clicked item first, and a small ranker of choices among them.

Rows are (impression, item) pairs; those of one impression follow each other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]
METRICS = ("auc", "mrr", "ndcg@5", "ndcg@10")


def impression_metrics(
    scores: NDArray[np.floating], groups: NDArray[np.integer], clicked: Bools
) -> dict[str, Floats]:
    """Measure impressions: auc, mrr, ndcg@5 and ndcg@10, (n_groups,) each.

    Those without a click, or with nothing beside it, have NaN. An impression has at most one click. Among
    items of equal score the click counts as standing in the middle.

    Parameters
    ----------
    scores : (n,)
    groups : (n,) impression of each row, from 0, in order
    clicked : (n,) bool

    Raises
    ------
    ValueError
        If the groups are not in order, or one has more than one click.
    """
    if (np.diff(groups) < 0).any():
        raise ValueError("groups must be in order, got one that falls")
    n = int(groups[-1]) + 1
    clicks = np.bincount(groups, clicked, n)
    if clicks.max() > 1:
        raise ValueError(f"an impression must have at most one click, got {int(clicks.max())}")
    own = np.full(n, np.nan)
    own[groups[clicked]] = scores[clicked]
    others = np.bincount(groups, ~clicked, n)
    tied = np.bincount(groups, (scores == own[groups]) & ~clicked, n)
    ahead = np.bincount(groups, (scores > own[groups]) & ~clicked, n) + 0.5 * tied
    asked = (clicks > 0) & (others > 0)
    rank = np.where(asked, 1.0 + ahead, np.nan)
    found = {"auc": 1.0 - ahead / np.where(asked, others, np.nan), "mrr": 1.0 / rank}
    for k in (5, 10):
        found[f"ndcg@{k}"] = np.where(rank <= k, 1.0 / np.log2(1.0 + rank), np.where(asked, 0.0, np.nan))
    return found


@dataclass(frozen=True, slots=True)
class ChoiceModel:
    """Scores are linear in standardised features: (x - mean) / scale @ weights, all (n_features,) float64."""

    mean: Floats
    scale: Floats
    weights: Floats

    def scores(self, features: NDArray[np.floating]) -> Floats:
        """Score rows: (n, n_features) -> (n,)."""
        return np.asarray((features - self.mean) / self.scale @ self.weights, np.float64)


def fit_choice(
    features: NDArray[np.floating],
    groups: NDArray[np.integer],
    clicked: Bools,
    penalties: NDArray[np.floating],
) -> ChoiceModel:
    """Fit a conditional logit (McFadden 1974): which item of an impression is clicked is a softmax of scores.

    Minimises the negative log likelihood plus half the sum of penalty * weight^2. Impressions without a click
    say nothing and are left out; what is the same for a whole impression has no effect.

    Parameters
    ----------
    features : (n, n_features), finite
    groups : (n,) impression of each row, in order
    clicked : (n,) bool, at most one an impression
    penalties : (n_features,), positive

    Raises
    ------
    ValueError
        If no impression has a click, or a penalty is not positive.
    """
    if not (penalties > 0).all():
        raise ValueError(f"penalties must be positive, got {float(np.min(penalties))}")
    if not clicked.any():
        raise ValueError("impressions must hold a click, got none")
    mean = features.mean(0)
    deviation = features.std(0)
    scale = np.where(deviation > 0, deviation, 1.0)
    kept = np.isin(groups, groups[clicked])
    x = (features[kept] - mean) / scale
    group = np.unique(groups[kept], return_inverse=True)[1]
    chosen = x[clicked[kept]].sum(0)
    starts = np.flatnonzero(np.diff(group, prepend=-1))

    def loss(weights: Floats) -> tuple[float, Floats]:
        scores = x @ weights
        top = np.maximum.reduceat(scores, starts)[group]
        shifted = np.exp(scores - top)
        total = np.add.reduceat(shifted, starts)
        value = np.log(total).sum() + top[starts].sum() - chosen @ weights
        gradient = x.T @ (shifted / total[group]) - chosen
        return float(value + 0.5 * penalties @ weights**2), gradient + penalties * weights

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return ChoiceModel(mean, scale, np.asarray(found.x, np.float64))


def resampled_means(
    values: Floats, owners: NDArray[np.integer], *, resamples: int, rng: np.random.Generator
) -> Floats:
    """Means of values over bootstrap samples of their owners: (resamples, ...).

    Parameters
    ----------
    values : (n, ...), NaN is left out
    owners : (n,) user of each value, from 0
    """
    n = int(owners.max()) + 1
    flat = values.reshape(len(values), -1)
    known = ~np.isnan(flat)
    sums = np.zeros((n, flat.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, owners, np.where(known, flat, 0.0))
    np.add.at(counts, owners, known)
    weights = rng.multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(np.float64)
    return np.asarray((weights @ sums / (weights @ counts)).reshape(resamples, *values.shape[1:]))
