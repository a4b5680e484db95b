"""Inputs and outputs of a policy."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

PropensityKind = Literal["exact", "estimated"]

PRIOR_PRECISION = 20.0
"""Trust in a policy's prior weights where nothing else is said; see `LinearPrior`."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The items a policy may choose from, for a batch of B requests.

    Attributes
    ----------
    scores : (B, C) float32, the scorer's output, higher is better
    features : (B, C, F) float32, what a learned policy sees of each candidate
    valid : (B, C) bool, False where there is no candidate
    arms : (B, C) uint64, which item each candidate is; only policies with a model per item need it
    vectors : (B, C, V) float32, what similarity is measured by, of length 1; for diversity
    groups : (B, C, G) int32, what a candidate is one of (its genres, say), -1 = padding; for caps
    fresh : (B, C) bool, candidates that have a share of the positions to themselves
    pinned : (B, C) int, candidates of 0 and more come first, the lowest number at the top; -1 = not pinned.
        `online_learning.policies.pinning` puts them there; to a policy, those that are not valid are there
        already
    trial, trial_at : (B,) int64, the candidate that is on trial, -1 = none, and the position where it stands
        whatever the policy; `online_learning.policies.trial` puts it there
    boosts : (B, C) float32, finite, added to a candidate's utility by whatever policy ranks by one: in units
        of reward, of log-odds for a logistic policy, of the score for one that ranks by it
    """

    scores: NDArray[np.float32]
    features: NDArray[np.float32]
    valid: NDArray[np.bool_]
    arms: NDArray[np.uint64] | None = None
    vectors: NDArray[np.float32] | None = None
    groups: NDArray[np.int32] | None = None
    fresh: NDArray[np.bool_] | None = None
    pinned: NDArray[np.int64] | None = None
    trial: NDArray[np.int64] | None = None
    trial_at: NDArray[np.int64] | None = None
    boosts: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        shape = self.scores.shape
        if len(shape) != 2:
            raise ValueError(f"scores must have shape (requests, candidates), got {shape}")
        if self.features.ndim != 3 or self.features.shape[:2] != shape:
            raise ValueError(
                f"features must have shape {(*shape, 'F')} to go with scores, got {self.features.shape}"
            )
        if self.valid.shape != shape:
            raise ValueError(f"valid must have shape {shape} to go with scores, got {self.valid.shape}")
        for name in ("arms", "fresh", "pinned", "boosts"):
            column = getattr(self, name)
            if column is not None and column.shape != shape:
                raise ValueError(f"{name} must have shape {shape} to go with scores, got {column.shape}")
        for name in ("trial", "trial_at"):
            column = getattr(self, name)
            if column is not None and column.shape != shape[:1]:
                raise ValueError(f"{name} must have shape {shape[:1]} to go with scores, got {column.shape}")
        for name, letter in (("vectors", "V"), ("groups", "G")):
            column = getattr(self, name)
            if column is not None and (column.ndim != 3 or column.shape[:2] != shape):
                wanted = f"{(*shape, letter)}"
                raise ValueError(f"{name} must have shape {wanted} to go with scores, got {column.shape}")


@dataclass(frozen=True, slots=True)
class Slates:
    """Slates that a policy chose for a batch of B requests.

    Attributes
    ----------
    index : (B, K) int64, K = max(k), column of the candidate at each position; -1 where the slate
        has ended (fewer usable candidates than asked for, or a smaller k than the batch's largest)
    propensities : (B, K) float32, probability that the policy put this candidate at this position,
        given the positions before it, in (0, 1]; 0 where index is -1
    version : the policy's version that chose
    """

    index: NDArray[np.int64]
    propensities: NDArray[np.float32]
    version: int = 0
