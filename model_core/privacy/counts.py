"""How many users like both of two items, told so that it hardly depends on any one user.

Each user is a vector v over the items, 1 / sqrt(n) at each of the n that they like: of length 1 however much
they like. Two sums over users are told, each with Gaussian noise, once. The first is of v itself, and of a
constant, which counts the users: how popular each item is. The second is of z z', where z is what v is apart
from the mean, in directions that only the first sum and the catalogue decide, shortened to a length; it moves
by no more than that length's square (Dwork et al. 2014, "Analyze Gauss"). Whatever is computed from the two
is as private as they are.

What all users have in common is known from the first sum. Taken out of v, it takes up no room below the
length that z is shortened to, so the noise on the rest is less. The directions are those in which items that
are alike move together. Where hardly any similarity is, a user has mostly chance, and the few strongest have
most of what is left: both count less.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.privacy.config import Privacy
from model_core.privacy.gaussian import gaussian_sigma

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

POPULARITY_SHARE = 0.25
"""Share of the promise that is spent on popularity: Gaussian mechanisms compose by the squares of
sensitivity over noise (Dong, Roth & Su 2022, "Gaussian differential privacy", corollary 3.3)."""
USER = 0.3
"""How much a user counts in the number of users, beside 1 in popularity."""
LIKED_ENOUGH = 0.35
"""Times the square root of how many items are counted, in standard deviations of the noise on a product that
a user moves by 1, that the least liked of them must be liked. It and the next five were chosen on ML-100K."""
MIN_ITEMS = 20
BLOCK = 8192
"""Users whose products are summed at once."""
WEAK, STRONG = 0.25, 3.0
"""A direction weighs ``relative ** WEAK / (1 + STRONG * share)`` by how alike items are in it, relative to
the median and as a share of the largest."""
APART = 0.1
"""How far an item is like itself alone, beside how far it is like all and like its kind."""
COMMON = 1.0 / 9.0
"""Share of what users have in common that stays in the pairs; more of it ranks by popularity."""

Counts = NDArray[np.float64]
Similar = Callable[[NDArray[np.int64]], NDArray[np.floating]]
"""Similarity of items to each other by the catalogue: rows (k,) to (k, k), positive semidefinite."""


class PrivateCounts(NamedTuple):
    """Noisy counts of likes: all that a private release reads of them.

    popularity : (n_items,) float64, sum of users' vectors; without a promise, the number of users
    users : number of users
    known : (k,) int64, items that pairs are counted of, ascending
    directions : (k, k) float64, which users' vectors were multiplied by
    products : (k, k) float64, the sum of the users' products with themselves; without a promise, the pairs
    edge : where the eigenvalues of the noise in `products` end; 0 where there is none
    alike : (k, k) float64, similarity of the items
    """

    popularity: Counts
    users: float
    known: NDArray[np.int64]
    directions: Counts
    products: Counts
    edge: float
    alike: Counts

    @property
    def liked(self) -> Counts:
        """Popularity of the items that pairs are counted of, at least as if one user liked nothing else."""
        return np.maximum(self.popularity[self.known], 1.0)


def pair_counts(users: NDArray[np.integer], items: NDArray[np.integer], n_items: int) -> Counts:
    """Count how many users like both of two items, exactly; one pair twice counts once.

    Parameters
    ----------
    users, items : (n,) rows

    Returns
    -------
    counts : (n_items, n_items) float64, symmetric; the diagonal says how many like an item
    """
    x = user_vectors(users, items, n_items)
    x.data[:] = 1.0
    counts: Counts = (x.T @ x).toarray()
    return counts


def private_counts(
    users: NDArray[np.integer],
    items: NDArray[np.integer],
    n_items: int,
    similar: Similar,
    privacy: Privacy,
    rng: np.random.Generator,
) -> PrivateCounts:
    """Count with the noise that the promise asks for; without a promise, count all as it is.

    Parameters
    ----------
    similar : must not depend on what users did
    rng : whoever knows its seed can take the noise away: seeded by nothing that is told, outside tests
    """
    if not privacy.promised:
        pairs = pair_counts(users, items, n_items)
        known = np.flatnonzero(pairs.diagonal())
        pairs, liked = pairs[np.ix_(known, known)], pairs.diagonal().copy()
        return PrivateCounts(
            liked, float(len(np.unique(users))), known, np.eye(len(known)), pairs, 0.0, np.zeros_like(pairs)
        )
    on_items, on_pairs = noises(privacy)
    vectors = user_vectors(users, items, n_items)
    on_items *= math.hypot(1.0, USER)
    popularity = np.asarray(vectors.sum(0)).ravel() + rng.normal(0.0, on_items, n_items)
    n_users = max(1.0, vectors.shape[0] + rng.normal(0.0, on_items / USER))
    known = liked_enough(popularity, on_pairs)
    alike = np.asarray(similar(known), np.float64)
    counts = PrivateCounts(popularity, n_users, known, np.eye(0), np.eye(0), 0.0, alike)
    directions, length = directions_of(counts, privacy.clip)
    counts = counts._replace(directions=directions)
    k, scale = len(known), on_pairs * length**2
    # Off the diagonal a number stands twice in a symmetric matrix, so it takes 1 / sqrt(2) of the noise.
    noise = np.triu(rng.normal(0.0, scale / math.sqrt(2.0), (k, k)), 1)
    noise += noise.T + np.diag(rng.normal(0.0, scale, k))
    edge = 2.0 * scale * math.sqrt(k / 2.0)  # Wigner's semicircle
    products = noise
    for begin in range(0, vectors.shape[0], BLOCK):
        told = told_of(vectors[begin : begin + BLOCK], counts, length)
        products += told.T @ told
    return counts._replace(products=products, edge=edge)


def user_vectors(users: NDArray[np.integer], items: NDArray[np.integer], n_items: int) -> "csr_matrix":
    """Users who like anything as vectors of length 1: (u, n_items); one pair twice counts once."""
    from scipy.sparse import csr_matrix

    who, row = np.unique(users, return_inverse=True)
    pairs = np.unique(row.astype(np.int64) * n_items + items)
    at = pairs // n_items
    each = 1.0 / np.sqrt(np.bincount(at, minlength=len(who)))
    return csr_matrix((each[at], (at, pairs % n_items)), (len(who), n_items))


def noises(privacy: Privacy) -> tuple[float, float]:
    """Standard deviations of the noise on popularity, and on products, where a user moves them by 1."""
    sigma = gaussian_sigma(privacy.epsilon, privacy.delta)
    return sigma / math.sqrt(POPULARITY_SHARE), sigma / math.sqrt(1.0 - POPULARITY_SHARE)


def liked_enough(popularity: Counts, noise: float) -> NDArray[np.int64]:
    """Choose the items of which pairs are worth counting: (k,) rows, ascending.

    Parameters
    ----------
    popularity : with noise; noise : on a product that a user moves by 1
    """
    order = np.argsort(-popularity, kind="stable")
    so_many = np.sqrt(np.arange(1, len(order) + 1))
    enough = np.flatnonzero(popularity[order] >= LIKED_ENOUGH * noise * so_many)
    k = max(MIN_ITEMS, int(enough[-1]) + 1 if len(enough) else 0)
    return np.sort(order[:k]).astype(np.int64)


def directions_of(counts: PrivateCounts, clip: float) -> tuple[Counts, float]:
    """Weighted directions that users are told by, (k, k), and the length that they are shortened to.

    The length is `clip` times the root mean square that users' vectors would have in these directions, were
    likes independent.
    """
    liked = counts.liked
    root = np.sqrt(liked)
    alike = (1.0 + counts.alike + APART * np.eye(len(liked))) * root[:, None] * root
    strength, directions = np.linalg.eigh(alike)
    strength = np.maximum(strength, 1e-9 * strength[-1])
    weights = (strength / np.median(strength)) ** WEAK / (1.0 + STRONG * strength / strength[-1])
    directions = directions * weights
    often = liked / max(liked.sum(), np.maximum(counts.popularity, 0.0).sum())
    return directions, clip * math.sqrt(float(often @ np.square(directions).sum(1)))


def told_of(vectors: "csr_matrix", counts: PrivateCounts, length: float) -> Counts:
    """What users' vectors are apart from the mean, in the directions, each at most `length` long: (u, k)."""
    mean = counts.liked / counts.users
    told: Counts = vectors[:, counts.known] @ counts.directions - mean @ counts.directions
    lengths = np.linalg.norm(told, axis=1, keepdims=True)
    told *= np.minimum(1.0, length / np.maximum(lengths, 1e-12))
    return told


def likely_pairs(counts: PrivateCounts) -> Counts:
    """What the pairs are likely to be: (k, k), positive semidefinite; the exact ones without a promise."""
    if not counts.edge:
        return counts.products
    liked = counts.liked
    inverse = np.linalg.inv(counts.directions)
    apart = inverse.T @ denoised(counts.products, counts.edge) @ inverse
    pairs: Counts = apart + COMMON * np.outer(liked, liked) / counts.users
    return pairs


def denoised(products: Counts, edge: float) -> Counts:
    """Take out of noisy products what is hardly above noise.

    Of an eigenvalue x as large as noise or larger, ``sqrt(x ** 2 - edge ** 2)`` is left: that has the least
    square error, for noise turns its direction, too (Donoho, Gavish & Johnstone 2018, "Optimal shrinkage of
    eigenvalues in the spiked covariance model", for a symmetric matrix with Wigner's noise).
    """
    values, vectors = np.linalg.eigh(products)
    there = values > edge
    left: Counts = (vectors[:, there] * np.sqrt(values[there] ** 2 - edge**2)) @ vectors[:, there].T
    return left
