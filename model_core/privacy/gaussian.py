"""The Gaussian mechanism: how much noise a promise takes, and what several of them promise together.

All of it is for a sensitivity of 1; noise on what one user moves by at most c is c times as large.
"""

import math
from collections.abc import Iterable

import numpy as np


def gaussian_sigma(epsilon: float, delta: float) -> float:
    """Least noise that gives (epsilon, delta)-differential privacy.

    Balle & Wang 2018, "Improving the Gaussian mechanism for differential privacy", theorem 8.
    """
    from scipy.optimize import brentq

    # Searched by its logarithm: delta falls with it, from 1 to 0.
    low, high = np.log(1e-3 / (1.0 + epsilon)), np.log(1e4 * (1.0 + 1.0 / epsilon))
    found = brentq(lambda log_sigma: gaussian_delta(epsilon, float(np.exp(log_sigma))) - delta, low, high)
    return float(np.exp(found))


def gaussian_delta(epsilon: float, sigma: float) -> float:
    """Least delta that noise of a standard deviation reaches at an epsilon."""
    from scipy.special import log_ndtr, ndtr

    half, shift = 0.5 / sigma, epsilon * sigma
    return float(ndtr(half - shift) - np.exp(epsilon + log_ndtr(-half - shift)))


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """Least epsilon that noise of a standard deviation reaches at a delta: `gaussian_sigma` turned round."""
    from scipy.optimize import brentq

    if gaussian_delta(0.0, sigma) <= delta:
        return 0.0
    high = 1.0
    while gaussian_delta(high, sigma) > delta:
        high *= 2.0
    return float(brentq(lambda epsilon: gaussian_delta(epsilon, sigma) - delta, 0.0, high))


def composed(sigmas: Iterable[float]) -> float:
    """Noise of one mechanism that promises what several together do; exact, and whatever each is asked.

    Dong, Roth & Su 2022, "Gaussian differential privacy", corollary 3.3.
    """
    return 1.0 / math.sqrt(sum(sigma**-2 for sigma in sigmas))
