"""Compiled loops. Plain sequential arithmetic (no fast-math), so results do not depend on batching."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    # Without the GIL: an update of a partition's statistics does not hold up the event loop's thread.
    return cast(_Function, njit(cache=True, nogil=True)(function))


@_compiled
def accumulate_outer(features: NDArray[np.float64], gram: NDArray[np.float64]) -> int:
    """Add outer(x, x) of every finite row to `gram` in place; return how many rows were used."""
    n, dim = features.shape
    used = 0
    for row in range(n):
        norm = 0.0
        for a in range(dim):
            norm += features[row, a] * features[row, a]
        if not np.isfinite(norm):
            continue
        for a in range(dim):
            for b in range(dim):
                gram[a, b] += features[row, a] * features[row, b]
        used += 1
    return used


@_compiled
def accumulate_moment(
    features: NDArray[np.float64], rewards: NDArray[np.float64], moment: NDArray[np.float64]
) -> int:
    """Add x * reward of every finite row to `moment` in place; return how many rows were used."""
    n, dim = features.shape
    used = 0
    for row in range(n):
        norm = 0.0
        for a in range(dim):
            norm += features[row, a] * features[row, a]
        if not np.isfinite(norm) or not np.isfinite(rewards[row] * norm):
            continue
        for a in range(dim):
            moment[a] += features[row, a] * rewards[row]
        used += 1
    return used
