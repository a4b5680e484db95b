"""What is promised to users, and the settings of a private release."""

import math
from dataclasses import dataclass
from typing import Any

NOT_COVERED = (
    "co-visits, popularity and rates that a worker folds while it serves",
    "what policies and signal weights learn online",
    "the catalogue (items, texts, links), the configuration, and how columns and scales of files were read",
    "who is in quarantine, and so left out of a training from the topics: others may be the reason",
    "other releases: each costs its own epsilon, and those of one log add up",
)
"""What the promise is not about, as the command, the manifest and the documents say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """User-level (epsilon, delta)-differential privacy; an infinite epsilon is none.

    Two logs are neighbours if one has all of one user more. `delta` is to be far below one by the number of
    users.
    """

    epsilon: float = math.inf
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if not self.epsilon > 0.0:
            raise ValueError(f"epsilon must be above 0, or inf for no privacy, got {self.epsilon:g}")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"delta must be above 0 and below 1, got {self.delta:g}")

    @property
    def promised(self) -> bool:
        """Whether anything is promised."""
        return self.epsilon < math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy(Promise):
    """What a release promises about the events that it is trained on, and how.

    clip : the length that what a user adds is shortened to, relative to what independent likes would have in
        the root mean square; chosen before the data are looked at
    """

    clip: float = 0.7

    def __post_init__(self) -> None:
        Promise.__post_init__(self)
        if not 0.0 < self.clip < math.inf:
            raise ValueError(f"clip must be above 0 and finite, got {self.clip:g}")

    def statement(self, sigmas: tuple[float, float]) -> dict[str, Any]:
        """Say what is promised and by what, as a manifest has it; sigmas are those of `counts.noises`."""
        return {
            "epsilon": self.epsilon, "delta": self.delta, "unit": "all events of one user, added or removed",
            "mechanism": "two analytic Gaussians, composed: the popularity of items with the number of "
            "users, and the clipped products of what users like apart from it, which EASE is fitted on",
            "clip": self.clip, "sigma_popularity": sigmas[0], "sigma_pairs": sigmas[1],
            "not_covered": list(NOT_COVERED),
        }  # fmt: skip
