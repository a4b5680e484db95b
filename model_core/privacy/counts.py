"""Item-item counts, and EASE of them, that hardly depend on any one user.

The counts are G = X'X, with X the users' liked items: its diagonal says how many like an item, the rest how
many like both of two. A user who likes n items adds 1 to n (n + 1) / 2 numbers of the upper triangle, which
is a vector of length sqrt(n (n + 1) / 2); what is longer than `Privacy.clip` is shortened to it. So one user
more or less moves the triangle by at most `clip`, and Gaussian noise on each of its numbers, once, makes it
private (Dwork et al. 2014, "Analyze Gauss"). The lower triangle mirrors it. Whatever is computed from the
noisy counts, popularity, co-visits or EASE, is as private as they are.
"""

import math

import numpy as np
from numpy.typing import NDArray

from model_core.privacy.config import Privacy

HEARD = 0.5
"""Eigenvalues below this share of the noise's largest are noise, and left out."""

Counts = NDArray[np.float64]


def gaussian_sigma(epsilon: float, delta: float) -> float:
    """Least noise, for a sensitivity of 1, that gives (epsilon, delta)-differential privacy.

    Balle & Wang 2018, "Improving the Gaussian mechanism for differential privacy", theorem 8.
    """
    from scipy.optimize import brentq

    # Searched by its logarithm: delta falls with it, from 1 to 0.
    low, high = np.log(1e-3 / (1.0 + epsilon)), np.log(1e4 * (1.0 + 1.0 / epsilon))
    found = brentq(lambda log_sigma: gaussian_delta(epsilon, float(np.exp(log_sigma))) - delta, low, high)
    return float(np.exp(found))


def gaussian_delta(epsilon: float, sigma: float) -> float:
    """Least delta that noise of a standard deviation reaches at an epsilon, for a sensitivity of 1."""
    from scipy.special import log_ndtr, ndtr

    half, shift = 0.5 / sigma, epsilon * sigma
    return float(ndtr(half - shift) - np.exp(epsilon + log_ndtr(-half - shift)))


def clipped_counts(
    users: NDArray[np.integer], items: NDArray[np.integer], n_items: int, clip: float
) -> Counts:
    """Item-item counts with each user's part at most `clip` long; one pair twice counts once.

    Parameters
    ----------
    users, items : (n,) rows
    clip : inf shortens nothing

    Returns
    -------
    counts : (n_items, n_items) float64, symmetric
    """
    from scipy import sparse

    who, row = np.unique(users, return_inverse=True)
    pairs = np.unique(row.astype(np.int64) * n_items + items)
    at = pairs // n_items
    liked = np.bincount(at, minlength=len(who)).astype(np.float64)
    length = np.sqrt(liked * (liked + 1.0) / 2.0)
    share = np.sqrt(np.minimum(1.0, clip / length))
    x = sparse.csr_matrix((share[at], (at, pairs % n_items)), (len(who), n_items))
    counts: Counts = (x.T @ x).toarray()
    return counts


def private_counts(
    users: NDArray[np.integer],
    items: NDArray[np.integer],
    n_items: int,
    privacy: Privacy,
    rng: np.random.Generator,
) -> Counts:
    """Item-item counts with the noise that the promise asks for; without a promise, the counts themselves.

    Parameters
    ----------
    rng : whoever knows its seed can take the noise away: seeded by nothing that is told, outside tests
    """
    if not privacy.promised:
        return clipped_counts(users, items, n_items, np.inf)
    counts = clipped_counts(users, items, n_items, privacy.clip)
    noise = np.triu(rng.normal(0.0, noise_of(privacy), counts.shape))
    return counts + noise + np.triu(noise, 1).T


def noise_of(privacy: Privacy) -> float:
    """Standard deviation of the noise on each count."""
    return privacy.clip * gaussian_sigma(privacy.epsilon, privacy.delta)


def heard(counts: Counts, privacy: Privacy) -> tuple[Counts, float]:
    """Leave out of noisy counts what is hardly above noise.

    The eigenvalues of the noise lie within twice its standard deviation times the square root of its size
    (Wigner's semicircle).

    Returns
    -------
    counts : (n_items, n_items) float64
    edge : where the noise's eigenvalues end
    """
    edge = 2.0 * noise_of(privacy) * math.sqrt(len(counts))
    values, vectors = np.linalg.eigh(counts)
    there = values > HEARD * edge
    left: Counts = (vectors[:, there] * values[there]) @ vectors[:, there].T
    return left, edge
