"""Options of policies: one struct a family, with the one default of each option."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Of policies that are told nothing."""


@dataclass(frozen=True, slots=True)
class SoftmaxOptions:
    """temperature : in units of reward; towards 0 the policy becomes greedy."""

    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < np.inf:
            raise ValueError(f"temperature must be finite and above 0, got {self.temperature}")


@dataclass(frozen=True, slots=True)
class SlateRules:
    """Rules between the positions of a slate: diversity, group caps and fresh items.

    Parameters
    ----------
    diversity : utility that a candidate loses when it is the same as one before it (similarity 1), in
        units of reward; needs `Candidates.vectors`
    cap : most candidates of one group in a slate; needs `Candidates.groups`. Where nothing else is left,
        the cap does not hold.
    fresh_share : probability that a position is kept for fresh candidates, as long as there are some;
        needs `Candidates.fresh`
    """

    diversity: float = 0.0
    cap: int | None = None
    fresh_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.diversity < np.inf:
            raise ValueError(f"diversity must be finite and at least 0, got {self.diversity}")
        if self.cap is not None and self.cap < 1:
            raise ValueError(f"cap must be at least 1, got {self.cap}")
        if not 0.0 <= self.fresh_share <= 1.0:
            raise ValueError(f"fresh_share must be in [0, 1], got {self.fresh_share}")


@dataclass(frozen=True, slots=True)
class DiverseSoftmaxOptions(SoftmaxOptions):
    """rules : see `SlateRules`; None for none."""

    rules: SlateRules | None = None


@dataclass(frozen=True, slots=True)
class OptimismOptions:
    """exploration : standard deviations of optimism, or scale of the posterior's; 0 ranks by the mean."""

    exploration: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.exploration < np.inf:
            raise ValueError(f"exploration must be finite and at least 0, got {self.exploration}")


@dataclass(frozen=True, slots=True)
class ThompsonOptions(OptimismOptions):
    """propensity_samples : draws a request that estimate its propensities; cost grows in proportion."""

    propensity_samples: int = 256

    def __post_init__(self) -> None:
        # By name: a class with slots is made anew, and `super()` without arguments knows the one before.
        OptimismOptions.__post_init__(self)
        if self.propensity_samples < 1:
            raise ValueError(f"propensity_samples must be at least 1, got {self.propensity_samples}")


@dataclass(frozen=True, slots=True)
class HybridOptions(OptimismOptions):
    """arm_precision : how close to the shared weights an item's own are believed to be; None as the prior."""

    arm_precision: float | None = None

    def __post_init__(self) -> None:
        OptimismOptions.__post_init__(self)
        if self.arm_precision is not None and not 0.0 < self.arm_precision < np.inf:
            raise ValueError(f"arm_precision must be finite and above 0, got {self.arm_precision}")


@dataclass(frozen=True, slots=True)
class EpsilonOptions:
    """epsilon : probability of exploring, per position."""

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon must be in [0, 1], got {self.epsilon}")


@dataclass(frozen=True, slots=True)
class ReleaseOptions:
    """policy_release : folder that a learner wrote."""

    policy_release: Path | None = field(default=None)


def names_of(options: type) -> tuple[str, ...]:
    """Return the options that a struct has."""
    return tuple(one.name for one in fields(options))


def part_of(options: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given of the options that a struct has."""
    return {name: given[name] for name in names_of(options) if name in given}
