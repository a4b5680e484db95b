"""How large a training's steps are, from its first to its last."""

import math

WARM_UP = 0.1
"""Share of a training in which steps grow."""


def pace(done: float) -> float:
    """Share of the learning rate for a step, when a share `done` of the training lies behind it.

    It rises over `WARM_UP` and falls along a cosine to zero at the end (Loshchilov & Hutter 2017, "SGDR").
    """
    fallen = max(0.0, (done - WARM_UP) / (1.0 - WARM_UP))
    return min(1.0, done / WARM_UP + 0.02) * 0.5 * (1.0 + math.cos(math.pi * fallen))
