"""Estimators of policy value from a log of slates, the value being the sum of a slate's rewards.

Every estimator reads `LoggedSlates` and returns `Contributions`; they differ in what a reward may depend on:

- `slate_ips`: on the whole slate; weights grow exponentially with its length.
- `reward_interaction_ips`, `cascade_dr`: on the item and those before it (a user who reads downwards).
- `independent_ips`: on the item and its position alone.
- `pseudo_inverse`: on the whole slate, as a sum of effects of each item at its position.

In the formulas w_k is the weight of position k: the ratio of the two policies' probabilities, given the
positions before it, and w_1:k = w_1 ... w_k.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from online_learning.ope.diagnostics import check_propensities
from online_learning.ope.estimators import check_probabilities
from online_learning.ope.types import Contributions, Floats, Refused, as_floats


@dataclass(frozen=True)
class LoggedSlates:
    """A log of n independent slates of up to K positions, and what P candidate policies say of them.

    Bad propensities do not fail here but in the estimators that read them.

    Parameters
    ----------
    rewards : (n, K) float, 0 where not shown
    target : (P, n, K) float, probability in [0, 1] that each candidate puts the logged item there, given the
        logged items before it
    propensities : (n, K) float, the same of the logging policy, in (0, 1]; None if not logged
    shown : (n, K) bool, False after a slate's end, where nothing else is read; None if all are full
    target_marginal : (P, n, K) float, probability of the item at the position whatever stands before it
    marginal : (n, K) float, the same of the logging policy. Conditional probabilities are not these:
        they differ wherever a policy does not choose each position by itself.
    predicted : (n, K) float, a model's reward of this and all later positions under the candidate, given
        the logged items up to this one
    expected : (P, n, K) float, the same averaged over the candidate's choices at this position
    max_weight : the largest weight of a slate that can occur, if it is known
    """

    rewards: Floats
    target: Floats
    propensities: Floats | None = None
    shown: NDArray[np.bool_] | None = None
    target_marginal: Floats | None = None
    marginal: Floats | None = None
    predicted: Floats | None = None
    expected: Floats | None = None
    max_weight: float = np.inf

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        put("rewards", as_floats("rewards", self.rewards, (None, None)))
        shape = self.rewards.shape
        if 0 in shape:
            raise ValueError(f"rewards must have at least 1 slate and 1 position, got shape {shape}")
        if self.shown is not None:
            put("shown", np.asarray(self.shown, np.bool_))
            if self.shown.shape != shape:
                raise ValueError(f"shown must have shape {shape}, got {self.shown.shape}")
            if self.rewards[~self.shown].any():
                raise ValueError(f"rewards must be 0 where not shown, got {self.rewards[~self.shown].max()}")
        put("target", as_floats("target", self.target, (None, *shape)))
        wide = self.target.shape
        for name, wanted in (("target_marginal", wide), ("predicted", shape), ("expected", wide)):
            if getattr(self, name) is not None:
                put(name, as_floats(name, getattr(self, name), wanted))
        for name in ("target", "target_marginal"):
            if getattr(self, name) is not None:
                check_probabilities(name, getattr(self, name))
        for name in ("propensities", "marginal"):
            if getattr(self, name) is not None:
                put(name, np.asarray(getattr(self, name), np.float64))
                if getattr(self, name).shape != shape:
                    raise ValueError(f"{name} must have shape {shape}, got {getattr(self, name).shape}")

    def first(self, length: int) -> "LoggedSlates":
        """Return the log of the slates' first `length` positions, whose value it estimates.

        Weights grow with every position, so a log that cannot bear an estimate of whole slates may bear one
        of their beginnings. `predicted` and `expected`, which speak of all later positions, are left out.
        """
        if not 1 <= length <= self.rewards.shape[1]:
            raise ValueError(f"length must be in [1, {self.rewards.shape[1]}], got {length}")
        columns = {
            name: getattr(self, name)[..., :length]
            for name in ("rewards", "target", "propensities", "shown", "target_marginal", "marginal")
            if getattr(self, name) is not None
        }
        return LoggedSlates(**columns)

    @cached_property
    def cumulative(self) -> Floats:
        """(P, K, n) float64, w_1:k; constant after a slate's end. Raises Refused on bad propensities."""
        ratios = self._ratios(self.target, self.propensities)
        return np.cumprod(ratios, axis=1, out=ratios)

    @cached_property
    def independent(self) -> Floats:
        """(P, K, n) float64, ratios of the marginals; 1 after a slate's end. Refused on bad ones."""
        if self.target_marginal is None or self.marginal is None:
            raise Refused(
                "marginals",
                "target_marginal and marginal must be given, got none; slate_ips and "
                "reward_interaction_ips need only the conditional propensities",
            )
        return self._ratios(self.target_marginal, self.marginal)

    @cached_property
    def columns(self) -> Floats:
        """(K, n) float64, the rewards by position."""
        return np.ascontiguousarray(self.rewards.T)

    @cached_property
    def filled(self) -> NDArray[np.bool_]:
        """(K, n) bool, which positions were shown."""
        return np.ones(self.columns.shape, np.bool_) if self.shown is None else self.shown.T

    def _ratios(self, target: Floats, propensities: Floats | None) -> Floats:
        logged = check_propensities(propensities, shown=self.shown)
        ratios = np.ones((len(target), *self.columns.shape))
        return np.divide(target.swapaxes(1, 2), logged.T, out=ratios, where=self.filled)


def slate_ips(log: LoggedSlates) -> Contributions:
    """Return w_1:K (r_1 + ... + r_K), unbiased whatever a reward depends on."""
    weights = log.cumulative[:, -1:]
    return _whole(log, weights)


def independent_ips(log: LoggedSlates) -> Contributions:
    """Return the sum of marginal weight times r_k (Li et al. 2018, "click models", item-position)."""
    return _by_position(log, log.independent)


def reward_interaction_ips(log: LoggedSlates) -> Contributions:
    """Return the sum of w_1:k r_k (McInerney et al. 2020, "sequential reward interactions")."""
    return _by_position(log, log.cumulative)


def normalised_slate_ips(log: LoggedSlates) -> Contributions:
    """Return mean(w_1:K r) / mean(w_1:K), the self-normalised `slate_ips`."""
    weights = log.cumulative[:, -1:]
    whole = _whole(log, weights)
    return Contributions(
        np.zeros_like(whole.plain), ratio=(whole.plain[:, None], weights), weights=whole.weights
    )


def normalised_independent_ips(log: LoggedSlates) -> Contributions:
    """Return `independent_ips`, each position divided by its mean weight."""
    return _normalised(log, log.independent)


def normalised_reward_interaction_ips(log: LoggedSlates) -> Contributions:
    """Return `reward_interaction_ips`, each position divided by its mean weight."""
    return _normalised(log, log.cumulative)


def pseudo_inverse(log: LoggedSlates) -> Contributions:
    """Return (1 - K + sum of marginal weights) (r_1 + ... + r_K).

    This is the pseudo-inverse estimator (Swaminathan et al. 2017, "Off-policy evaluation for slate
    recommendation") where the logging policy chooses each position by itself, so that its second moments
    have this closed form. For a logging policy that draws without replacement it is an approximation.
    """
    weights = log.independent.sum(axis=1, keepdims=True)
    weights += 1 - log.rewards.shape[1]
    # Negative weights are possible, so the bound on the slate's own weight says nothing here.
    return _whole(log, weights, bound=np.inf)


def cascade_dr(log: LoggedSlates) -> Contributions:
    """Return the sum of w_1:k (r_k - q_k) + w_1:k-1 v_k (Kiyohara et al. 2022, section 3.1).

    q_k is `predicted` and v_k `expected`. Unbiased when a reward depends on no later item, whatever the
    model.
    """
    if log.predicted is None or log.expected is None:
        raise Refused(
            "model", "predicted and expected must be given, got none; reward_interaction_ips needs no model"
        )
    weights = log.cumulative
    errors = np.where(log.filled, log.columns - log.predicted.T, 0.0)
    expected = np.where(log.filled, log.expected.swapaxes(1, 2), 0.0)
    plain = np.einsum("pkn,kn->pn", weights, errors)
    plain += expected[:, 0]
    plain += np.einsum("pkn,pkn->pn", weights[:, :-1], expected[:, 1:])
    return Contributions(plain, weights=weights, modelled=True)


# By the names they have in settings, tables and metrics.
SLATE_ESTIMATORS: Mapping[str, Callable[[LoggedSlates], Contributions]] = {
    "sips": slate_ips,
    "iips": independent_ips,
    "rips": reward_interaction_ips,
    "snsips": normalised_slate_ips,
    "sniips": normalised_independent_ips,
    "snrips": normalised_reward_interaction_ips,
    "pseudo_inverse": pseudo_inverse,
    "cascade_dr": cascade_dr,
}


def _whole(log: LoggedSlates, weights: Floats, *, bound: float | None = None) -> Contributions:
    # weights: (P, 1, n), one for the whole slate
    return Contributions(
        weights[:, 0] * log.columns.sum(axis=0),
        weights=np.broadcast_to(weights, (len(weights), *log.columns.shape)),
        largest_weight=log.max_weight if bound is None else bound,
    )


def _by_position(log: LoggedSlates, weights: Floats) -> Contributions:
    return Contributions(
        np.einsum("pkn,kn->pn", weights, log.columns), weights=weights, largest_weight=log.max_weight
    )


def _normalised(log: LoggedSlates, weights: Floats) -> Contributions:
    return Contributions(
        np.zeros((len(weights), len(log.rewards))), ratio=(weights * log.columns, weights), weights=weights
    )
