"""Bayesian linear regression of reward on features, from sufficient statistics."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.relative import EXPECTED, RelativeStatistics, candidate_rows
from online_learning.statistics.sums import Statistics, check_same_space
from online_learning.types import PRIOR_PRECISION

MOST_VARIANCE = 0.25
"""Most variance that a reward of 0 or 1 can have: where it is as likely as not."""
LEVEL_REWARDS = 10.0
"""How many rewards what a release says of their level is worth, where it is corrected by those seen."""


@dataclass(frozen=True, slots=True)
class LinearPrior:
    """Prior of a linear model before the first impression: w ~ N(weights, I / weight_precision).

    With the last layer of a network as features this is the neural-linear model (Riquelme, Tucker &
    Snoek, "Deep Bayesian bandits showdown", ICLR 2018).

    Parameters
    ----------
    weights : (F,) float, prior mean of the weights; utility of a candidate = its features @ weights
    precision : trust in `weights` where noise_variance is 0.25; `weight_precision` elsewhere
    noise_variance : variance of a reward given the features, rate (1 - rate) of a 0/1 reward whose rate is
        known; 0.25 where it is not, the most it can be
    feature_space : names what the features mean, e.g. a release version; statistics of another one
        are refused
    relative : whether what is learned corrects the release in proportion to its own expectation, and within
        slates (`online_learning.statistics.relative`); `weights` must be its probability alone then
    """

    weights: NDArray[np.float64]
    precision: float = PRIOR_PRECISION
    noise_variance: float = MOST_VARIANCE
    feature_space: str = ""
    relative: bool = False

    def __post_init__(self) -> None:
        weights = np.array(self.weights, np.float64)
        if weights.ndim != 1 or not len(weights) or not np.isfinite(weights).all():
            raise ValueError(f"weights must be a finite vector of at least 1, got shape {weights.shape}")
        for name in ("precision", "noise_variance"):
            value = getattr(self, name)
            if not 0.0 < value < np.inf:
                raise ValueError(f"{name} must be finite and above 0, got {value}")
        if self.relative and not np.array_equal(weights, np.eye(1, len(weights), EXPECTED)[0]):
            raise ValueError(f"weights must be 1 of feature {EXPECTED} alone where they are relative")
        weights.setflags(write=False)
        object.__setattr__(self, "weights", weights)

    @property
    def weight_precision(self) -> float:
        """Precision of the weights; an impression of features x weighs |x|^2 / noise_variance beside it.

        The release is believed to be wrong about log-odds, and by as much whether rewards are rare or not.
        A small step in log-odds is noise_variance = p (1 - p) as large a step in the probability p (the slope
        of the sigmoid; the delta method), so the weights' standard deviation is in proportion to it. Thus
        what is drawn from the prior of rare rewards disturbs their order no more than of common ones, and
        a given number of rewards, not of impressions, outweighs it.
        """
        return self.precision * (MOST_VARIANCE / self.noise_variance) ** 2


@dataclass(frozen=True, slots=True)
class LinearPosterior:
    """The belief after some statistics: w ~ N(mean, root @ root.T).

    Attributes
    ----------
    mean : (F,) float64
    root : (F, F) float64
    version : impressions and rewards it has seen
    relative : as of the prior
    """

    mean: NDArray[np.float64]
    root: NDArray[np.float64]
    version: int
    relative: bool = False

    def rows(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the weights are put to, as the features: (..., F)."""
        return candidate_rows(features) if self.relative else features


def infer(prior: LinearPrior, statistics: Statistics | None = None) -> LinearPosterior:
    """Return the posterior over the weights.

    precision = prior.weight_precision I + gram / noise_variance,
    mean = precision^-1 (prior.weight_precision prior.weights + moment / noise_variance);
    Agrawal & Goyal, "Thompson sampling for contextual bandits with linear payoffs", ICML 2013, with
    the prior mean at the released weights instead of 0. A relative prior is brought to the level of the
    rewards that were seen first (`_levelled`).

    Raises
    ------
    ValueError
        The statistics are of another kind, dimension or feature space, or their gram is not one of real rows.
    """
    dim, kind = len(prior.weights), RelativeStatistics if prior.relative else LinearStatistics
    if statistics is None:
        statistics = kind(dim, feature_space=prior.feature_space)
    if type(statistics) is not kind:
        raise ValueError(f"statistics must be {kind.__name__}, got {type(statistics).__name__}")
    check_same_space(dim, prior.feature_space, statistics)
    believed = prior.weights, np.full(dim, prior.weight_precision), prior.noise_variance
    weights, precision, noise = _levelled(prior, statistics) if prior.relative else believed
    return posterior_of(
        statistics.gram / noise + np.diag(precision),
        precision * weights + statistics.moment / noise,
        version=statistics.impressions + statistics.rewards,
        relative=prior.relative,
    )


def _levelled(
    prior: LinearPrior, statistics: LinearStatistics
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return a relative prior at the level of the rewards seen: weights and their precision, (F,), and noise.

    Rewards are as rare as they turn out to be, and the release's probabilities count as so many times less
    or more. What it may be wrong about is a share of that: a reward expected tells of weights relative to
    the level as much as 1 / MOST_VARIANCE impressions do where rewards are as likely as not, and
    `prior.precision` stands beside those. What is added for the level is worth `LEVEL_REWARDS`.
    """
    said = (1.0 - np.sqrt(max(0.0, 1.0 - prior.noise_variance / MOST_VARIANCE))) / 2.0
    rate = (LEVEL_REWARDS + statistics.rewards) / (LEVEL_REWARDS / said + statistics.impressions)
    rate = min(rate, 0.5)
    noise = rate * (1.0 - rate)
    expected, earned = statistics.gram[0, 0] / noise, max(0.0, statistics.moment[0] / noise)
    level = (LEVEL_REWARDS + earned) / (LEVEL_REWARDS + expected)
    precision = np.full(len(prior.weights), MOST_VARIANCE * prior.precision / level**2)
    precision[0] = LEVEL_REWARDS
    weights = level * prior.weights
    weights[0] = 1.0
    return weights, precision, noise


def posterior_of(
    precision: NDArray[np.float64], target: NDArray[np.float64], *, version: int, relative: bool = False
) -> LinearPosterior:
    """Return N(precision^-1 target, precision^-1), or raise ValueError where that is none."""
    try:
        lower = np.linalg.cholesky(precision)
    except np.linalg.LinAlgError:
        raise ValueError("statistics must have a positive semi-definite gram, got one that is not") from None
    # precision = L L^T, so L^-T is a square root of its inverse.
    root = np.linalg.solve(lower, np.eye(len(target))).T
    return LinearPosterior(mean=root @ (root.T @ target), root=root, version=version, relative=relative)
