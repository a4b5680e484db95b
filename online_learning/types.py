"""What goes into a policy and what comes out of it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

PropensityKind = Literal["exact", "estimated"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The items a policy may choose from, for a batch of B requests.

    Attributes
    ----------
    scores : (B, C) float32, the scorer's output, higher is better
    features : (B, C, F) float32, what a learned policy sees of each candidate
    valid : (B, C) bool, False where there is no candidate
    arms : (B, C) uint64, which item each candidate is; only policies with a model per item need it
    """

    scores: NDArray[np.float32]
    features: NDArray[np.float32]
    valid: NDArray[np.bool_]
    arms: NDArray[np.uint64] | None = None

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
        if self.arms is not None and self.arms.shape != shape:
            raise ValueError(f"arms must have shape {shape} to go with scores, got {self.arms.shape}")


@dataclass(frozen=True, slots=True)
class Slates:
    """What a policy chose for a batch of B requests.

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
