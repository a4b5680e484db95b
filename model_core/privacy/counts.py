"""Item-item counts, and EASE of them, that hardly depend on any one user.

The counts are G = X'X, with X the users' liked items: its diagonal says how many like an item, the rest how
many like both of two. A user who likes n items adds 1 to n (n + 1) / 2 numbers of the upper triangle, which
is a vector of length sqrt(n (n + 1) / 2); what is longer than `Privacy.clip` is shortened to it. So one user
more or less moves the triangle by at most `clip`, and Gaussian noise on each of its numbers, once, makes it
private (Dwork et al. 2014, "Analyze Gauss"). The lower triangle mirrors it. Whatever is computed from the
noisy counts, popularity, co-visits or EASE, is as private as they are.

Noise drowns what few users like, and the more of it there is, the more items are counted. So first it is
asked, with noise too, how many users like each item, and pairs are counted only of those liked enough.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.privacy.config import Privacy
from model_core.privacy.gaussian import gaussian_sigma

POPULARITY_SHARE = 0.1
"""Share of the promise that is spent on which items to count: Gaussian mechanisms compose by the squares of
sensitivity over noise (Dong, Roth & Su 2022, "Gaussian differential privacy", corollary 3.3)."""
LIKED_ENOUGH = 0.7
"""Times the square root of how many items are counted, in standard deviations of the noise on a pair, that
the least liked of them must be liked. Chosen on ML-100K and halves of its users, for epsilons of 1 to 32."""
MIN_ITEMS = 20

Counts = NDArray[np.float64]


class PrivateCounts(NamedTuple):
    """Noisy counts of likes: all that a private release reads of them.

    popularity : (n_items,) float64, weighted number of users who like each item
    known : (k,) int64, items that pairs are counted of, ascending
    pairs : (k, k) float64, symmetric
    edge : where the eigenvalues of the noise in `pairs` end; 0 where there is none
    """

    popularity: Counts
    known: NDArray[np.int64]
    pairs: Counts
    edge: float


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
) -> PrivateCounts:
    """Count with the noise that the promise asks for; without a promise, count all as it is.

    Parameters
    ----------
    rng : whoever knows its seed can take the noise away: seeded by nothing that is told, outside tests
    """
    if not privacy.promised:
        pairs = clipped_counts(users, items, n_items, np.inf)
        known = np.flatnonzero(pairs.diagonal())
        return PrivateCounts(pairs.diagonal().copy(), known, pairs[np.ix_(known, known)], 0.0)
    on_items, on_pairs = noises(privacy)
    popularity = clipped_popularity(users, items, n_items) + rng.normal(0.0, on_items, n_items)
    known = liked_enough(popularity, on_pairs / privacy.clip)
    place = np.full(n_items, -1)
    place[known] = np.arange(len(known))
    there = place[items] >= 0
    pairs = clipped_counts(users[there], place[items[there]], len(known), privacy.clip)
    noise = np.triu(rng.normal(0.0, on_pairs, pairs.shape))
    edge = 2.0 * on_pairs * math.sqrt(len(known))  # Wigner's semicircle
    return PrivateCounts(popularity, known, pairs + noise + np.triu(noise, 1).T, edge)


def noises(privacy: Privacy) -> tuple[float, float]:
    """Standard deviations of the noise on each item's popularity, and on each pair; together they promise."""
    sigma = gaussian_sigma(privacy.epsilon, privacy.delta)
    return sigma / math.sqrt(POPULARITY_SHARE), privacy.clip * sigma / math.sqrt(1.0 - POPULARITY_SHARE)


def clipped_popularity(users: NDArray[np.integer], items: NDArray[np.integer], n_items: int) -> Counts:
    """Return how many users like each item, each user's part a vector of length 1; pairs twice count once."""
    pairs = np.unique(users.astype(np.int64) * n_items + items)
    _, liked = np.unique(pairs // n_items, return_counts=True)
    each = np.repeat(1.0 / np.sqrt(liked), liked)
    return np.bincount(pairs % n_items, each, minlength=n_items).astype(np.float64)


def liked_enough(popularity: Counts, noise: float) -> NDArray[np.int64]:
    """Choose the items of which pairs are worth counting: (k,) rows, ascending.

    Parameters
    ----------
    popularity : of `clipped_popularity`, with noise; noise : on a pair, for a clip of 1
    """
    order = np.argsort(-popularity, kind="stable")
    so_many = np.sqrt(np.arange(1, len(order) + 1))
    enough = np.flatnonzero(popularity[order] >= LIKED_ENOUGH * noise * so_many)
    k = max(MIN_ITEMS, int(enough[-1]) + 1 if len(enough) else 0)
    return np.sort(order[:k]).astype(np.int64)


def denoised(pairs: Counts, edge: float) -> Counts:
    """Take out of noisy pairs what is hardly above noise: each eigenvalue is what it is likely to have been.

    Noise moves an eigenvalue x beyond half its edge to ``x + edge ** 2 / 4 / x``, and drowns the others
    (Benaych-Georges & Nadakuditi 2011, "The eigenvalues and eigenvectors of finite, low rank perturbations of
    large random matrices", section 3.1).
    """
    values, vectors = np.linalg.eigh(pairs)
    there = values > edge
    seen = values[there]
    true = (seen + np.sqrt(seen**2 - edge**2)) / 2.0
    left: Counts = (vectors[:, there] * true) @ vectors[:, there].T
    return left
