"""A Bayesian linear model of reward per arm: disjoint, or with weights that all arms share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.statistics.arm_kernels import arm_moments, top_of_sum
from online_learning.statistics.arms import ArmStatistics
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics, check_same_space

# Contexts for which random numbers are made at once: they stay in the cache.
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class ArmPosterior:
    """The belief about the weights of every arm: w_a ~ N(mean[a], covariance[a]).

    Attributes
    ----------
    arms : (A,) uint64, ascending
    mean : (A + 1, F) float64; the last row is of an arm that has no statistics
    covariance : (A + 1, F, F) float64
    columns : (A + 1, F (F + 1) / 2) float32, columns of the lower triangular root of each covariance,
        root.T @ root: half of it, and its squares cannot become negative
    version : impressions and rewards it has seen
    """

    arms: NDArray[np.uint64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    columns: NDArray[np.float32]
    version: int

    def moments(
        self, features: NDArray[np.float32], arms: NDArray[np.uint64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation of the expected reward of candidates.

        Parameters
        ----------
        features : (B, C, F) float32
        arms : (B, C) uint64

        Returns
        -------
        (B, C) float64 each; NaN or infinite where the features are
        """
        mean, deviation = np.empty((2, *arms.shape))
        arm_moments(
            np.ascontiguousarray(features, np.float32), arms, self.arms, self.mean, self.columns,
            mean, deviation,
        )  # fmt: skip
        return mean, deviation

    def score(self, contexts: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean and standard deviation of the expected reward of every arm in every context.

        The quadratic form of a context and an arm is a scalar product of their packed matrices, so that
        all of them are one matrix product. float32: 7 digits, in a tenth of the time of loops in float64.

        Parameters
        ----------
        contexts : (n, F) float, finite

        Returns
        -------
        (n, A) float32 each, columns as `arms`
        """
        rows = np.asarray(contexts, np.float32)
        left, right = np.tril_indices(rows.shape[1])
        twice = np.where(left == right, 1.0, 2.0)
        packed = (self.covariance[:-1, left, right] * twice).astype(np.float32).T
        variance = (rows[:, left] * rows[:, right]) @ packed
        return rows @ self.mean[:-1].astype(np.float32).T, np.sqrt(np.maximum(variance, 0.0))

    def top_ucb(self, contexts: NDArray[Any], *, k: int, exploration: float) -> NDArray[np.uint64]:
        """Return the k arms of highest mean + exploration * deviation for each context, best first.

        Parameters
        ----------
        contexts : (n, F) float, finite; equal ones are computed once
        k : at most A

        Returns
        -------
        (n, k) uint64
        """
        rows, back = _distinct(contexts)
        mean, deviation = self.score(rows)
        still = np.full((1, len(self.arms)), exploration, np.float32)
        return self._top(mean, deviation, np.broadcast_to(still, mean.shape), np.arange(len(rows)), k)[back]

    def top_thompson(
        self, contexts: NDArray[Any], *, k: int, exploration: float, rng: np.random.Generator
    ) -> NDArray[np.uint64]:
        """Return the k arms of highest expected reward under weights drawn anew for each context.

        An arm's weights depend on no other's, so it is enough to draw what they expect: see
        `DisjointThompsonPolicy`. Not for a hybrid belief, whose arms depend on each other.

        Parameters
        ----------
        contexts : (n, F) float, finite; what is not drawn is computed once for equal ones
        k : at most A
        exploration : scale of the standard deviation

        Returns
        -------
        (n, k) uint64
        """
        rows, back = _distinct(contexts)
        mean, deviation = self.score(rows)
        deviation *= np.float32(exploration)
        top = np.empty((len(back), k), np.uint64)
        for first in range(0, len(back), _BLOCK):
            part = back[first : first + _BLOCK]
            noise = rng.standard_normal((len(part), len(self.arms)), np.float32)
            top[first : first + _BLOCK] = self._top(mean, deviation, noise, part, k)
        return top

    def _top(
        self,
        mean: NDArray[np.float32],
        deviation: NDArray[np.float32],
        noise: NDArray[np.float32],
        rows: NDArray[np.int64],
        k: int,
    ) -> NDArray[np.uint64]:
        if not 0 <= k <= len(self.arms):
            raise ValueError(f"k must be in [0, {len(self.arms)}], the number of arms, got {k}")
        index = np.zeros((len(rows), k), np.int64)
        if k:
            top_of_sum(mean, deviation, noise, rows, index)
        return self.arms[index]


def _distinct(contexts: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rows = np.ascontiguousarray(contexts, np.float32)
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
    _, first, back = np.unique(keys, return_index=True, return_inverse=True)
    return rows[first], back


def infer_disjoint(prior: LinearPrior, statistics: Statistics | None = None) -> ArmPosterior:
    """Return the belief where no arm says anything about another.

    Each arm has the prior w_a ~ N(prior.weights, I / prior.weight_precision) and its own observations (Li,
    Chu, Langford & Schapire, "A contextual-bandit approach to personalized news article recommendation", WWW
    2010, algorithm 1, with ridge parameter weight_precision x noise_variance).

    Raises
    ------
    ValueError
        The statistics are no `ArmStatistics`, of another dimension or feature space, or a gram is not one
        of real rows.
    """
    statistics = _checked(prior, statistics)
    dim, order = len(prior.weights), np.argsort(statistics.arms)
    eye = prior.weight_precision * np.eye(dim)
    roots = _roots(np.concatenate([statistics.gram[order] / prior.noise_variance + eye, eye[None]]))
    covariance = np.matmul(roots.swapaxes(1, 2), roots)
    target = prior.weight_precision * prior.weights + statistics.moment[order] / prior.noise_variance
    mean = np.matmul(covariance[:-1], target[:, :, None])[:, :, 0]
    return ArmPosterior(
        arms=statistics.arms[order],
        mean=np.concatenate([mean, prior.weights[None]]),
        covariance=covariance,
        columns=_columns(roots),
        version=statistics.impressions + statistics.rewards,
    )


def infer_hybrid(
    prior: LinearPrior, statistics: Statistics | None = None, *, arm_precision: float = 1.0
) -> ArmPosterior:
    """Return the belief where an arm's weights are the shared ones and something of its own.

    w_a = b + d_a with b ~ N(prior.weights, I / prior.weight_precision) and d_a ~ N(0, I / own): the hybrid
    model of Li et al. 2010 (algorithm 2), whose shared features are here the arm's own. With
    G_a = gram / noise_variance, m_a = moment / noise_variance, A_a = own I + G_a, what the arms say of b
    is sum G_a - G_a A_a^-1 G_a; then mean_a = b + A_a^-1 (m_a - G_a b),
    covariance_a = A_a^-1 + M_a covariance_b M_a^T, M_a = own A_a^-1.

    Parameters
    ----------
    arm_precision : how close to the shared weights an arm's are believed to be, as `LinearPrior.precision`
        is to the prior's; `own` is to it as the prior's weight_precision is to its precision

    Raises
    ------
    ValueError
        As of `infer_disjoint`.
    """
    statistics = _checked(prior, statistics)
    dim, order = len(prior.weights), np.argsort(statistics.arms)
    eye, own = np.eye(dim), arm_precision * prior.weight_precision / prior.precision
    gram = statistics.gram[order] / prior.noise_variance
    moment = statistics.moment[order] / prior.noise_variance
    inverse = _inverse(gram + own * eye)
    pull = own * inverse  # = I - A^-1 G, so that G - G A^-1 G = G @ pull without cancellation
    shared = prior.weight_precision * eye + np.matmul(gram, pull).sum(axis=0)
    shared_covariance = _inverse((shared + shared.T)[None] / 2.0)[0]
    said = np.matmul(pull, moment[:, :, None])[:, :, 0].sum(axis=0)
    weights = shared_covariance @ (prior.weight_precision * prior.weights + said)
    apart = np.matmul(inverse, (moment - gram @ weights)[:, :, None])[:, :, 0]
    covariance = inverse + np.matmul(np.matmul(pull, shared_covariance), pull)
    covariance = np.concatenate([covariance, (shared_covariance + eye / own)[None]])
    # From the last row to the first, a lower triangular root is the upper one that is wanted here, turned.
    lower = np.linalg.cholesky(covariance[:, ::-1, ::-1])[:, ::-1, ::-1]
    return ArmPosterior(
        arms=statistics.arms[order],
        mean=np.concatenate([weights + apart, weights[None]]),
        covariance=covariance,
        columns=_columns(lower.swapaxes(1, 2)),
        version=statistics.impressions + statistics.rewards,
    )


def _checked(prior: LinearPrior, statistics: Statistics | None) -> ArmStatistics:
    dim = len(prior.weights)
    if statistics is None:
        return ArmStatistics(dim, feature_space=prior.feature_space)
    if not isinstance(statistics, ArmStatistics):
        raise ValueError(f"statistics must be ArmStatistics, got {type(statistics).__name__}")
    check_same_space(dim, prior.feature_space, statistics)
    return statistics


def _roots(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lower triangular roots of the inverses of (A, F, F) matrices: root.T @ root is the inverse."""
    try:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(precision)))
    except np.linalg.LinAlgError:
        raise ValueError("statistics must have a positive semi-definite gram, got one that is not") from None


def _inverse(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverses of (A, F, F) positive definite matrices."""
    roots = _roots(precision)
    inverse: NDArray[np.float64] = np.matmul(roots.swapaxes(1, 2), roots)
    return inverse


def _columns(roots: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (A, F (F + 1) / 2) float32, the columns of lower triangular matrices from their diagonals on."""
    columns, rows = np.triu_indices(roots.shape[1])
    # Indexing leaves an arm's numbers far apart in memory.
    return np.ascontiguousarray(roots[:, rows, columns], np.float32)
