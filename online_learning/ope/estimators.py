"""Estimators of policy value from a log of single actions.

Every estimator reads `LoggedActions` and returns `Contributions`. In the formulas w = target / propensity,
r the reward, q the reward that a model predicts of the logged action, and v the reward it expects under the
candidate policy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from online_learning.ope.diagnostics import check_propensities
from online_learning.ope.types import Contributions, Floats, Refused, as_floats


@dataclass(frozen=True)
class LoggedActions:
    """A log of n independent rows, and what P candidate policies and a reward model say of them.

    Bad propensities do not fail here but in the estimators that read them, so a log without them can
    still be used by the direct method.

    Parameters
    ----------
    rewards : (n,) float, of the logged actions
    target : (P, n) float, probability in [0, 1] that each candidate takes the logged action
    propensities : (n,) float, probability that the logging policy took it, in (0, 1]; None if not logged
    predicted : (n,) float, the model's reward of the logged action; None without a model. It should come
        from a model fitted on other rows (cross-fitting), or DR is over-confident.
    expected : (P, n) float, the model's reward, averaged over the actions of each candidate
    max_weight : the largest weight that can occur, if the logging policy's least propensity is known
    """

    rewards: Floats
    target: Floats
    propensities: Floats | None = None
    predicted: Floats | None = None
    expected: Floats | None = None
    max_weight: float = np.inf

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        put("rewards", as_floats("rewards", self.rewards, (None,)))
        n = len(self.rewards)
        if n == 0:
            raise ValueError("rewards must have at least 1 row, got 0")
        put("target", as_floats("target", self.target, (None, n)))
        check_probabilities("target", self.target)
        if self.propensities is not None:
            put("propensities", np.asarray(self.propensities, np.float64))
            if self.propensities.shape != (n,):
                raise ValueError(f"propensities must have shape ({n},), got {self.propensities.shape}")
        if self.predicted is not None:
            put("predicted", as_floats("predicted", self.predicted, (n,)))
        if self.expected is not None:
            put("expected", as_floats("expected", self.expected, self.target.shape))

    @classmethod
    def from_distributions(
        cls,
        rewards: NDArray[Any],
        actions: NDArray[np.integer[Any]],
        distributions: NDArray[Any],
        *,
        propensities: NDArray[Any] | None = None,
        predictions: NDArray[Any] | None = None,
        max_weight: float = np.inf,
    ) -> Self:
        """Return the log, reduced from the probabilities and predictions of all A actions.

        Parameters
        ----------
        actions : (n,) int, column of the logged action
        distributions : (P, n, A) float, action probabilities of the candidates; (P, 1, A) where they do
            not depend on the row
        predictions : (n, A) float, rewards predicted of every action
        """
        distributions = np.asarray(distributions, np.float64)
        n = len(rewards)
        if distributions.ndim != 3 or distributions.shape[1] not in (1, n):
            raise ValueError(f"distributions must have shape (P, {n} or 1, A), got {distributions.shape}")
        policies, _, n_actions = distributions.shape
        if actions.shape != (n,) or (n and not 0 <= actions.min() <= actions.max() < n_actions):
            raise ValueError(f"actions must be ({n},) columns in [0, {n_actions}), got {actions!r}")
        totals = distributions @ np.ones(n_actions)
        if not (np.abs(totals - 1.0) < 1e-6).all():
            raise ValueError(f"distributions must sum to 1, got sums {totals.min()} to {totals.max()}")
        rows = np.arange(n)
        everywhere = np.broadcast_to(distributions, (policies, n, n_actions))
        predicted = expected = None
        if predictions is not None:
            values = np.asarray(predictions, np.float64)
            if values.shape != (n, n_actions):
                raise ValueError(f"predictions must have shape ({n}, {n_actions}), got {values.shape}")
            predicted, expected = values[rows, actions], np.vecdot(everywhere, values)
        return cls(rewards, everywhere[:, rows, actions], propensities, predicted, expected, max_weight)

    @cached_property
    def weights(self) -> Floats:
        """(P, n) float64, target / propensities; raises Refused where these are missing or not in (0, 1]."""
        return np.asarray(self.target / check_propensities(self.propensities))

    @cached_property
    def model(self) -> tuple[Floats, Floats]:
        """`expected` (P, n) and the model's errors `rewards - predicted` (n,); Refused without a model."""
        if self.predicted is None or self.expected is None:
            raise Refused(
                "model", "predicted and expected must be given, got none; ips and snips need no model"
            )
        return self.expected, self.rewards - self.predicted


def direct_method(log: LoggedActions) -> Contributions:
    """Return v: the model's word alone, with the model's bias and no weights."""
    return Contributions(log.model[0], modelled=True, largest_weight=0.0)


def ips(log: LoggedActions, *, clip: float = np.inf) -> Contributions:
    """Return min(w, clip) r; unbiased without a clip (Horvitz & Thompson 1952; Strehl et al. 2010).

    Parameters
    ----------
    clip : largest weight, above 0; it takes away variance and adds bias towards 0
    """
    weights = np.minimum(log.weights, _positive("clip", clip))
    return _weighted(log, weights * log.rewards, weights, clip)


def snips(log: LoggedActions) -> Contributions:
    """Return mean(w r) / mean(w) (Swaminathan & Joachims 2015, "The self-normalized estimator").

    It stays within the range of the rewards, with a bias that falls as 1 / n.
    """
    weights = log.weights[:, None]
    return Contributions(np.zeros_like(log.target), ratio=(weights * log.rewards, weights), weights=weights)


def doubly_robust(log: LoggedActions, *, clip: float = np.inf) -> Contributions:
    """Return v + min(w, clip) (r - q) (Dudik et al. 2014, "Doubly robust policy evaluation").

    Without a clip it is unbiased when the propensities are right, whatever the model.
    """
    weights = np.minimum(log.weights, _positive("clip", clip))
    return _corrected(log, weights, clip)


def self_normalised_dr(log: LoggedActions) -> Contributions:
    """Return v + mean(w (r - q)) / mean(w) (Thomas & Brunskill 2016, weighted doubly robust)."""
    expected, errors = log.model
    weights = log.weights[:, None]
    return Contributions(expected, ratio=(weights * errors, weights), weights=weights, modelled=True)


def switch_dr(log: LoggedActions, *, threshold: float) -> Contributions:
    """Return v + w (r - q) where w <= threshold, else v (Wang, Agarwal & Dudik 2017, section 4).

    Parameters
    ----------
    threshold : largest weight still trusted; 0 gives the direct method, inf gives DR
    """
    if not threshold >= 0.0:
        raise ValueError(f"threshold must be at least 0, got {threshold}")
    weights = np.where(log.weights <= threshold, log.weights, 0.0)
    return _corrected(log, weights, threshold)


def shrunk_dr(log: LoggedActions, *, shrinkage: float) -> Contributions:
    """Return v + s w / (w^2 + s) (r - q), DRos (Su et al. 2020, "DR with optimistic shrinkage").

    Parameters
    ----------
    shrinkage : s; 0 gives the direct method, inf gives DR. No weight exceeds sqrt(s) / 2.
    """
    if not shrinkage >= 0.0:
        raise ValueError(f"shrinkage must be at least 0, got {shrinkage}")
    weights = log.weights
    if shrinkage < np.inf:
        # A weight of 0 stays 0, also where shrinkage is 0 and the formula would be 0 / 0.
        square = weights**2 + shrinkage
        weights = np.divide(shrinkage * weights, square, out=np.zeros_like(weights), where=square > 0.0)
    return _corrected(log, weights, np.sqrt(shrinkage) / 2.0)


# By the names they have in settings, tables and metrics; a dial stands at a moderate value.
ESTIMATORS: Mapping[str, Callable[[LoggedActions], Contributions]] = {
    "dm": direct_method,
    "ips": ips,
    "clipped_ips": partial(ips, clip=10.0),
    "snips": snips,
    "dr": doubly_robust,
    "sndr": self_normalised_dr,
    "switch_dr": partial(switch_dr, threshold=10.0),
    "dros": partial(shrunk_dr, shrinkage=100.0),
}


def check_probabilities(name: str, values: Floats) -> None:
    """Raise ValueError unless all `values` are in [0, 1]; rounding up to 1e-9 above 1 passes."""
    if values.size and (values.min() < 0.0 or values.max() > 1.0 + 1e-9):
        raise ValueError(f"{name} must be in [0, 1], got {values.min()} to {values.max()}")


def _positive(name: str, value: float) -> float:
    if not value > 0.0:
        raise ValueError(f"{name} must be above 0, got {value}")
    return value


def _weighted(log: LoggedActions, plain: Floats, weights: Floats, bound: float) -> Contributions:
    return Contributions(plain, weights=weights[:, None], largest_weight=min(log.max_weight, bound))


def _corrected(log: LoggedActions, weights: Floats, bound: float) -> Contributions:
    expected, errors = log.model
    plain = weights * errors
    plain += expected
    return Contributions(
        plain, weights=weights[:, None], modelled=True, largest_weight=min(log.max_weight, bound)
    )
