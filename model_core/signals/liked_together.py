"""How much users say that two items go together, which EASE is fitted on.

A share of it may count the more the nearer two likes are in their user's order: tastes change, and what is
liked in a row goes together. Two likes d apart then count ``1 - near + near * exp(-d / NEAR)``. That is a
positive semidefinite kernel, so a ridge regression can be solved with the sums.
"""

import numba
import numpy as np
from numpy.typing import NDArray

NEAR = 30.0
"""Likes of a user after which the part that is by nearness has fallen to 1 / e."""

njit = numba.njit(cache=True, nogil=True)


def liked_together(
    users: NDArray[np.integer],
    items: NDArray[np.integer],
    shares: NDArray[np.float32],
    n_items: int,
    near: float = 0.0,
) -> NDArray[np.float32]:
    """Sum over users how much each counts, for each two items that they like: (n_items, n_items), symmetric.

    Parameters
    ----------
    users, items : (n,) rows, in the order of likes, no pair twice
    shares : (n_users,) float32, of `influence.likes_share`
    near : share of it that is by nearness
    """
    if near:
        return _near_together(users, items, shares, n_items, near)
    from scipy import sparse  # takes a second, and a worker only reads weights

    shape = len(shares), n_items
    x = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
    weighed = sparse.csr_matrix((shares[users], (users, items)), shape)
    sums: NDArray[np.float32] = (x.T @ weighed).toarray()
    return sums


def _near_together(
    users: NDArray[np.integer],
    items: NDArray[np.integer],
    shares: NDArray[np.float32],
    n_items: int,
    near: float,
) -> NDArray[np.float32]:
    order = np.argsort(users, kind="stable")
    bounds = np.searchsorted(users[order], np.arange(len(shares) + 1))
    sums = np.zeros((n_items, n_items))
    _near_pairs(bounds, items[order], shares, np.exp(-np.arange(n_items) / NEAR), near, sums)
    return (sums + np.triu(sums, 1).T).astype(np.float32)


@njit
def _near_pairs(bounds, items, shares, fallen, near, sums):  # type: ignore[no-untyped-def]
    """Add the upper triangle of what pairs count; `fallen` is by distance, of a user's likes at most."""
    for u in range(len(bounds) - 1):
        for a in range(bounds[u], bounds[u + 1]):
            for b in range(bounds[u], a + 1):
                low, high = min(items[a], items[b]), max(items[a], items[b])
                sums[low, high] += shares[u] * (1.0 - near + near * fallen[a - b])
