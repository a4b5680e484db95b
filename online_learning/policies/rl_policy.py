"""Serves what a learner of `online_learning.rl` learned: a small network over each candidate's features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.options import ReleaseOptions
from online_learning.policies.policy import RegisteredPolicy
from online_learning.policies.ranking import boosts, check_request, check_slates, top_k
from online_learning.policies.softmax import conditional_propensities
from online_learning.sampling import gumbels
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, PropensityKind, Slates

_NOISE = 1

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weights (inputs, outputs) and bias (outputs,)."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """A network from a candidate's features to its score: tanh between layers, outputs summed.

    Attributes
    ----------
    mean, scale : (F,) float32; features enter as (features - mean) / scale
    layers : the first of F inputs
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        width = len(self.mean)
        if self.mean.shape != (width,) or self.scale.shape != (width,) or not self.layers:
            raise ValueError(
                "a scorer must have mean and scale of one length and at least one layer, "
                f"got {self.mean.shape}, {self.scale.shape}, {len(self.layers)} layers"
            )
        for number, (weights, bias) in enumerate(self.layers):
            if weights.ndim != 2 or weights.shape[0] != width or bias.shape != weights.shape[1:]:
                raise ValueError(
                    f"layer {number} must have {width} inputs and a bias for each output, "
                    f"got {weights.shape} and {bias.shape}"
                )
            width = weights.shape[1]
        arrays = (self.mean, self.scale, *(array for layer in self.layers for array in layer))
        if not all(np.isfinite(array).all() for array in arrays) or not (self.scale > 0).all():
            raise ValueError("a scorer must have finite weights and scales above 0, got others")

    @property
    def dim(self) -> int:
        """Number of features."""
        return len(self.mean)

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (B, C) float32 scores of (B, C, F) float32 features."""
        values = (features - self.mean) / self.scale
        for number, (weights, bias) in enumerate(self.layers):
            # A product of its own for each request: its rounding does not depend on the batch.
            values = np.matmul(values, weights) + bias
            if number + 1 < len(self.layers):
                values = np.tanh(values)
        return np.asarray(values.sum(axis=-1), np.float32)


class RlPolicy(RegisteredPolicy):
    """Draws position after position with probability proportional to exp(score / temperature).

    The Plackett-Luce model, as `SoftmaxPolicy`, on a network's scores. It learns by a new release, not from
    statistics: its version stays 0.

    Parameters
    ----------
    scorer : what a learner learned
    temperature : in units of scores; 1 is the policy that a policy gradient learned, towards 0 it is greedy
    """

    name = "rl"
    learns_from = None
    Options = ReleaseOptions
    propensity_kind: PropensityKind = "exact"
    version = 0

    def __init__(self, scorer: Scorer, *, temperature: float = 1.0) -> None:
        if not 0.0 < temperature < np.inf:
            raise ValueError(f"temperature must be finite and above 0, got {temperature}")
        self.scorer = scorer
        self.temperature = temperature

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        logits, usable = self._logits(candidates)
        index = top_k(logits + gumbels(seeds, logits.shape[1], stream=_NOISE), usable, k)
        return Slates(index, conditional_propensities(logits, index), self.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        return conditional_propensities(self._logits(candidates)[0], index)

    def update(self, statistics: Statistics) -> None:
        """Do nothing: this policy learns by a new release."""

    def _logits(self, candidates: Candidates) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        dim = candidates.features.shape[-1]
        if dim != self.scorer.dim:
            raise ValueError(f"features must have the policy's dimension {self.scorer.dim}, got {dim}")
        usable = candidates.valid & np.isfinite(candidates.features).all(axis=-1)
        features = np.where(usable[..., None], candidates.features, np.float32(0.0))
        logits = (self.scorer(features) + boosts(candidates)).astype(np.float64) / self.temperature
        return np.where(usable, logits, -np.inf), usable
