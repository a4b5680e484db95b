"""Whether a log can bear an estimate: propensities, support and the spread of the weights."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.ope.intervals import cluster_sums
from online_learning.ope.types import Contributions, Floats, Refused

QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Diagnostics of one policy's estimate: effective sample size and weights.

    With several positions, a figure of the weights is that of the worst position.

    Attributes
    ----------
    n : rows of the log
    effective_size : sum(w)^2 / sum(w^2), rows of equal weight that would be as certain (Kish, "Survey
        sampling", 1965, section 11.7)
    effective_rewards : the same over the rows whose reward is not 0
    mean_weight : 1 in expectation; below 1 by the probability that the policy gives to what the log never
        shows, or that clipping takes away
    mean_weight_error : its standard error
    unchosen : share of rows that the policy would never have chosen (weight 0)
    quantiles : weights at `QUANTILES`, the last is the largest
    effective_clusters : `effective_size` of the clusters' summed weights; None without clusters
    """

    n: int
    effective_size: float
    effective_rewards: float
    mean_weight: float
    mean_weight_error: float
    unchosen: float
    quantiles: tuple[float, ...]
    effective_clusters: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Below which an estimate is refused.

    Attributes
    ----------
    effective_size : rows
    effective_rewards : rows with a reward; without any, an interval of width 0 would look like certainty
    effective_clusters : of fewer, a bootstrap that draws clusters is too narrow
    weight_deviation : how far the mean weight may be from 1, once that is over `deviation_errors`
        standard errors; not asked of estimators with a reward model
    deviation_errors : in standard errors of the mean weight
    """

    effective_size: float = 100.0
    effective_rewards: float = 5.0
    effective_clusters: float = 30.0
    weight_deviation: float = 0.1
    deviation_errors: float = 4.0


def effective_size(weights: Floats) -> Floats:
    """Return sum(w)^2 / sum(w^2) over the last axis, 0 where all weights are 0."""
    squares = np.vecdot(weights, weights)
    sums = weights.sum(axis=-1)
    return np.asarray(np.divide(sums**2, squares, out=np.zeros_like(squares), where=squares > 0.0))


def diagnose(
    contributions: Contributions, rewards: Floats, clusters: NDArray[Any] | None = None
) -> list[Diagnostics | None]:
    """Return the diagnostics of each of P policies, None where the estimator uses no weights.

    Parameters
    ----------
    rewards : (K, n) float64, as logged
    clusters : (n,), equal for rows that depend on each other; None where all are independent
    """
    weights = contributions.weights
    if weights is None:
        return [None] * len(contributions.plain)
    n = weights.shape[2]
    sizes = effective_size(weights).min(axis=1)
    grouped = None
    if clusters is not None:
        grouped = effective_size(cluster_sums(weights, clusters)[0]).min(axis=1)
    rewarded = effective_size(weights[:, rewards != 0.0])
    means = weights.mean(axis=2)
    errors = weights.std(axis=2) / np.sqrt(max(n - 1, 1))
    worst = np.abs(means - 1.0).argmax(axis=1)
    unchosen = (weights == 0.0).mean(axis=2).max(axis=1)
    quantiles = np.quantile(weights, QUANTILES, axis=2).max(axis=2).T
    return [
        Diagnostics(
            n=n,
            effective_size=float(sizes[policy]),
            effective_rewards=float(rewarded[policy]),
            mean_weight=float(means[policy, position]),
            mean_weight_error=float(errors[policy, position]),
            unchosen=float(unchosen[policy]),
            quantiles=tuple(map(float, quantiles[policy])),
            effective_clusters=None if grouped is None else float(grouped[policy]),
        )
        for policy, position in enumerate(worst)
    ]


def check_bearable(diagnostics: Diagnostics, limits: Limits, *, modelled: bool) -> None:
    """Raise Refused, a ValueError, where the log cannot bear the estimate.

    Parameters
    ----------
    modelled : whether the estimator has a reward model for what the weights leave out
    """
    got = diagnostics
    if _is_below(got.effective_size, limits.effective_size):
        raise Refused(
            "effective_size",
            f"effective sample size must be at least {limits.effective_size:g}, got "
            f"{_down(got.effective_size):g} of {got.n} rows (largest weight {got.quantiles[-1]:.4g}); "
            "clipped weights, Switch-DR or DRos may still do, for slates weights by position, the direct "
            "method needs no weights, and a log with more rows or more exploration bears more",
        )
    if _is_below(got.effective_rewards, limits.effective_rewards):
        raise Refused(
            "effective_rewards",
            f"effective rewarded rows must be at least {limits.effective_rewards:g}, got "
            f"{_down(got.effective_rewards):g}: too few rewards fall where the policy would choose; "
            "use a longer log, a more frequent reward, or the direct method",
        )
    clusters = got.effective_clusters
    if clusters is not None and _is_below(clusters, limits.effective_clusters):
        raise Refused(
            "effective_clusters",
            f"effective clusters must be at least {limits.effective_clusters:g}, got "
            f"{_down(clusters):g}: rows of one cluster (a user, say) are not independent; a log of "
            "more of them bears more, and the direct method needs no weights",
        )
    deviation = abs(got.mean_weight - 1.0)
    if (
        not modelled
        and deviation > limits.weight_deviation
        and deviation > limits.deviation_errors * got.mean_weight_error
    ):
        raise Refused(
            "mean_weight",
            f"mean weight must be within {limits.weight_deviation:g} of 1, got {got.mean_weight:.4g} ± "
            f"{got.mean_weight_error:.2g}: the policy chooses what the log never shows, the clip is too "
            "low, or the propensities are wrong; a doubly robust estimator or the direct method can still "
            "be used, with the reward model answering for what is missing",
        )


def check_propensities(
    propensities: NDArray[np.float64] | None, *, shown: NDArray[np.bool_] | None = None
) -> Floats:
    """Return the propensities, or raise Refused where weights cannot be had from them.

    Parameters
    ----------
    propensities : any shape, probability of what was logged under the logging policy; None if not logged
    shown : of the same shape, False where nothing was shown and the propensity is not read
    """
    remedy = "the direct method needs none and can still be used"
    if propensities is None:
        raise Refused(
            "propensities", f"propensities must be logged for importance weights, got none; {remedy}"
        )
    bad = ~((propensities > 0.0) & (propensities <= 1.0))
    if shown is not None:
        bad &= shown
    count = int(bad.sum())
    if count:
        where = np.unravel_index(int(bad.argmax()), bad.shape)
        raise Refused(
            "propensities",
            f"propensities must be in (0, 1], got {propensities[where]} at {tuple(map(int, where))} "
            f"and {count} such of {bad.size}; {remedy}, or leave these rows out if their fault does not "
            "depend on the action or the reward",
        )
    return propensities


def _is_below(got: float, least: float) -> bool:
    """Whether a sum of floats falls short, and not for its rounding."""
    return got < least * (1.0 - 1e-9)


def _down(got: float) -> float:
    """Cut to two digits after the point: what falls short is not shown as enough."""
    return math.floor(got * 100.0) / 100.0
