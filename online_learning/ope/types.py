"""Types that estimators pass to intervals and diagnostics."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


RefusalKind = Literal[
    "propensities",
    "marginals",
    "model",
    "interval",
    "effective_size",
    "effective_rewards",
    "effective_clusters",
    "mean_weight",
]


class Refused(ValueError):
    """The log cannot bear what was asked; the message says why, the value, and what can still be done."""

    def __init__(self, kind: RefusalKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Contributions:
    """Contributions of n logged rows to the estimated values of P policies, K terms to a row.

    An estimate is mean(plain) + sum over k of mean(numerator_k) / mean(denominator_k), means over rows.
    A self-normalised estimator has the ratio, so that a bootstrap can normalise every resample anew.

    Attributes
    ----------
    plain : (P, n) float64, in units of reward
    ratio : numerator and denominator, (P, K, n) float64 each, or None
    weights : (P, K, n) float64, the importance weights used, after clipping; None where none are
    modelled : whether a reward model stands in for what the weights leave out
    largest_weight : a bound on what a weight can be, known before the data; inf where there is none
    """

    plain: Floats
    ratio: tuple[Floats, Floats] | None = None
    weights: Floats | None = None
    modelled: bool = False
    largest_weight: float = np.inf

    def columns(self) -> Floats:
        """Return (C, n) float64: every series of which an estimate needs the mean."""
        if self.ratio is None:
            return self.plain
        n = self.plain.shape[1]
        return np.concatenate([self.plain, *(part.reshape(-1, n) for part in self.ratio)])

    def combine(self, means: Floats) -> Floats:
        """Return (B, P) float64 estimates from (B, C) means of `columns`; NaN where a ratio has no weight."""
        policies = len(self.plain)
        if self.ratio is None:
            return means
        numerators, denominators = np.split(means[:, policies:], 2, axis=1)
        with np.errstate(invalid="ignore"):
            ratios = (numerators / denominators).reshape(len(means), policies, -1).sum(axis=2)
        return np.asarray(means[:, :policies] + ratios)

    def values(self) -> Floats:
        """Return (P,) float64, the estimated value of each policy in units of reward per row."""
        return np.asarray(self.combine(self.columns().mean(axis=1)[None])[0])

    def bounds(self, reward_range: tuple[float, float]) -> tuple[float, float]:
        """Return the least and the most that an entry of `plain` can be.

        Parameters
        ----------
        reward_range : least and most reward of a row, which the reward model keeps to as well
        """
        low, high = reward_range
        if not low < high:
            raise ValueError(f"reward_range must be (low, high) with low < high, got {reward_range}")
        if not self.modelled:
            return min(0.0, self.largest_weight * low), max(0.0, self.largest_weight * high)
        correction = self.largest_weight * (high - low)
        return low - correction, high + correction


def as_floats(name: str, values: object, shape: tuple[int | None, ...]) -> Floats:
    """Return `values` as finite float64 of `shape`, where None stands for any length.

    Raises
    ------
    ValueError
        The shape is another, or an entry is NaN or infinite.
    """
    array = np.asarray(values, np.float64)
    wanted = tuple(have if want is None else want for have, want in zip(array.shape, shape, strict=False))
    if array.ndim != len(shape) or array.shape != wanted:
        text = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} must have shape ({text}), got {array.shape}")
    if not np.isfinite(array).all():
        where = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)
        raise ValueError(f"{name} must be finite, got {array[where]} at {tuple(map(int, where))}")
    return array
