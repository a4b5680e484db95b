"""Whether a distribution has moved: the population stability index."""

import numpy as np
from numpy.typing import NDArray

EMPTY = 1e-4
"""Share that an empty bin counts as."""


def population_stability(now: NDArray[np.float64], before: NDArray[np.float64]) -> float:
    """Return the sum of ``(now - before) ln(now / before)`` over the shares of bins.

    Below 0.1 little has changed; from 0.25 on much has (Siddiqi, "Credit Risk Scorecards", 2006, chapter 9).

    Parameters
    ----------
    now, before : (n_bins,) float64, what was counted in each bin

    Raises
    ------
    ValueError
        If nothing was counted on either side.

    Examples
    --------
    >>> population_stability(np.array([5.0, 5.0]), np.array([50.0, 50.0]))
    0.0
    """
    if not (now.sum() > 0 and before.sum() > 0):
        raise ValueError(f"both sides must have counts, got {now.sum():g} and {before.sum():g}")
    new, old = np.maximum(now / now.sum(), EMPTY), np.maximum(before / before.sum(), EMPTY)
    return float(((new - old) * np.log(new / old)).sum())
