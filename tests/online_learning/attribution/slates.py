"""What tests of pending slates put into a store."""

from typing import Any

import numpy as np

from online_learning.attribution.pending_slates import PendingSlates
from online_learning.attribution.rewards import Shaping

WINDOW = 1_000
WEIGHTS = {"view": 0.2, "click": 1.0, "dislike": -1.0}
ITEMS = ("a", "b", "c")


def features(n: int = 3) -> np.ndarray:
    return np.arange(2 * n, dtype=np.float32).reshape(n, 2)


def store(**settings: Any) -> PendingSlates:
    return PendingSlates(**({"window_ms": WINDOW, "shaping": Shaping(WEIGHTS)} | settings))
