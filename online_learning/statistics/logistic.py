"""Bayesian logistic regression of reward on features, from sums that can be added."""

from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_learning.statistics.fold_kernels import add_logistic
from online_learning.statistics.linear import LinearStatistics, Snapshot, read_snapshot
from online_learning.statistics.observations import read_floats
from online_learning.statistics.posterior import LinearPosterior, LinearPrior, posterior_of
from online_learning.statistics.sums import Statistics, check_same_space

# A prior probability outside this is taken as this: log-odds of 0 or 1 have no finite value. Those of rare
# rewards are still told apart.
MIN_CHANCE = 1e-6


class LogisticStatistics(LinearStatistics):
    """Tangent quadratics of the log-likelihood of 0/1 rewards: additive over observations and partitions.

    The log-odds of a reward are log-odds of the prior probability, x @ prior.weights, plus x @ w. A row's
    log-likelihood is developed to second order around x @ `reference`, the weights believed in when it was
    shown (a Newton step of the Laplace approximation; Chapelle & Li, "An empirical evaluation of Thompson
    sampling", NIPS 2011, algorithm 3, where the believed weights are those after the last batch). Whatever
    the reference, quadratics add up; the nearer it was to the truth, the nearer is their sum to the
    likelihood. `develop_at` moves it for the rows to come: `reference` is part of the state and of its
    snapshots, so that what is read again after a restart is developed at the same point.

    Parameters
    ----------
    prior : belief before the first impression; its feature_space must be these statistics'
    half_life_ms : see `LinearStatistics`

    Attributes
    ----------
    reference : (F,) float64, w of the rows to come
    """

    kind = "logistic"
    separable = False

    def __init__(self, prior: LinearPrior, *, half_life_ms: int | None = None) -> None:
        super().__init__(len(prior.weights), feature_space=prior.feature_space, half_life_ms=half_life_ms)
        self._prior = prior
        self.reference = np.zeros(self.dim)

    def develop_at(self, weights: NDArray[Any]) -> None:
        """Develop the rows to come around `weights`, (F,) float, finite."""
        reference = np.array(weights, np.float64)
        if reference.shape != (self.dim,) or not np.isfinite(reference).all():
            raise ValueError(f"weights must be a finite vector of {self.dim}, got shape {reference.shape}")
        self.reference = reference
        self._changed = True

    def next_reference(self) -> NDArray[np.float64]:
        """Return the weights believed in now, (F,) float64."""
        return infer_logistic(self._prior, self).mean

    def move_to(self, prior: LinearPrior) -> None:
        """See `Statistics.move_to`."""
        super().move_to(prior)
        self._prior = prior

    def replace(self, changes: Self) -> None:
        """See `Statistics.replace`."""
        super().replace(changes)
        self.reference = changes.reference.copy()

    def amend_impressions(self, features: NDArray[Any], weights: NDArray[Any], **_: Any) -> int:
        """Refuse: a row was developed around weights that are no longer known, so it cannot be taken back."""
        raise ValueError("impressions must not be amended in logistic statistics")

    def take_out(self, part: Self) -> bool:
        """Refuse, for the same reason: False."""
        return False

    def __add__(self, other: Self) -> Self:
        total = super().__add__(other)
        if total is not NotImplemented:
            # Any would do for the sum. One that does not depend on the order makes equal sums equal.
            heavier = max(self, other, key=lambda part: (part.impressions, part.reference.tolist()))
            total.reference = heavier.reference.copy()
        return total

    @classmethod
    def blank(cls, prior: LinearPrior, *, half_life_ms: int | None) -> Self:
        """See `Statistics.blank`."""
        return cls(prior, half_life_ms=half_life_ms)

    @classmethod
    def read_for(cls, data: bytes, prior: LinearPrior, *, half_life_ms: int | None = None) -> Self:
        """Read what `to_bytes` wrote, exactly; see `LinearStatistics.from_bytes` for what is refused."""
        snapshot = read_snapshot(data)
        statistics = cls(prior, half_life_ms=half_life_ms)
        check_same_space(statistics.dim, statistics.feature_space, snapshot)
        if (snapshot.half_life_ms or None) != half_life_ms:
            raise ValueError(f"half_life_ms must be {half_life_ms}, got {snapshot.half_life_ms or None}")
        statistics._load(snapshot)
        statistics.reference = read_floats(snapshot.reference, (statistics.dim,), "reference")
        return statistics

    def _fold(
        self,
        rows: NDArray[np.float64],
        weights: NDArray[np.float64],
        times: NDArray[np.int64],
        exponents: NDArray[np.int64],
        slots: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> int:
        used = add_logistic(
            rows, self._prior.weights, MIN_CHANCE, weights, times, exponents, self.reference,
            self._packed[0], self._moment[0], self._clocks[0],
        )  # fmt: skip
        self._changed = True
        counts[0] += used
        return int(used)

    def empty(self) -> Self:
        """See `Statistics.empty`."""
        return type(self)(self._prior, half_life_ms=self.half_life_ms)

    def _snapshot(self) -> Snapshot:
        reference = self.reference.astype("<f8").tobytes()
        return msgspec.structs.replace(super()._snapshot(), reference=reference)


def infer_logistic(prior: LinearPrior, statistics: Statistics | None = None) -> LinearPosterior:
    """Return the posterior over what is added to the prior's log-odds: w ~ N(mean, root @ root.T).

    precision = prior.precision I + matrix, mean = precision^-1 moment; `prior.noise_variance` has no part,
    since the variance of a 0/1 reward follows from its probability, and log-odds have the same scale at any.

    Raises
    ------
    ValueError
        The statistics are no `LogisticStatistics`, of another dimension or feature space, or their matrix
        is not one of real rows.
    """
    dim = len(prior.weights)
    if statistics is None:
        statistics = LogisticStatistics(prior)
    if not isinstance(statistics, LogisticStatistics):
        raise ValueError(f"statistics must be LogisticStatistics, got {type(statistics).__name__}")
    check_same_space(dim, prior.feature_space, statistics)
    return posterior_of(
        statistics.gram + prior.precision * np.eye(dim),
        statistics.moment,
        version=statistics.impressions + statistics.rewards,
    )
