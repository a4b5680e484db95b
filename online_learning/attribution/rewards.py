"""Rewards of responses, and the windows in which they are attributed to a slate."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Shaping:
    """The reward of each action, as configured.

    Parameters
    ----------
    weights : reward of each action; a negative one is a penalty
    dwell_half_ms : for actions whose reward grows with the time spent: dwell_ms that earns half of the
        weight. The curve dwell / (dwell + half) rises from 0 and never reaches the whole.
    windows_ms : for actions that come late, such as a purchase days after a click: how long after the slate
        they reward it, in place of the window of all others
    """

    weights: Mapping[str, float]
    dwell_half_ms: Mapping[str, float] = field(default_factory=dict)
    windows_ms: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("dwell_half_ms", "windows_ms"):
            for action, value in getattr(self, name).items():
                if action not in self.weights:
                    raise ValueError(f"{name} must name actions with a weight, got {action!r}")
                if not 0 < value < float("inf"):
                    raise ValueError(f"{name} must be finite and above 0, got {value} for {action!r}")

    def quality(self, action: str, dwell_ms: float | None) -> float:
        """Return the share of an action's weight that was earned, in [0, 1]; 1 where no time is told."""
        half = self.dwell_half_ms.get(action)
        if half is None or dwell_ms is None:
            return 1.0
        return 1.0 if dwell_ms == float("inf") else dwell_ms / (dwell_ms + half)

    def reward(self, action: str, dwell_ms: float | None) -> float:
        """Return what an action earns."""
        return self.weights[action] * self.quality(action, dwell_ms)
