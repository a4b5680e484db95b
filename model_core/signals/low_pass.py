"""Similarity of items in the main directions of taste: a low-pass filter over who liked them.

The interactions X, each divided by the square root of its user's likes and a power of its item's, are
projected on their first right singular vectors V: the ideal low pass of Shen et al. 2021, "How powerful is
graph convolution for recommendation?", with a free exponent of popularity. It tells apart what EASE has too
few common users for, and is of low rank, so that no matrix of items x items is made.
"""

import numpy as np
from numpy.typing import NDArray

RANK = 24
"""Singular vectors that are kept."""
TEMPER = 0.25
"""Exponent of an item's likes: 0.5 normalises symmetrically, less favours popular items."""
MIN_SHARE = 1e-6
"""Singular values that are kept, as a share of the first: vectors of 0 are arbitrary."""

Matrix = NDArray[np.float32]


def low_pass(users: NDArray[np.integer], items: NDArray[np.integer]) -> tuple[Matrix, Matrix]:
    """Return the factors of the filter: an item liked weighs ``left[i] @ right[j]`` for item j.

    Parameters
    ----------
    users, items : (n,) rows from 0, no pair twice; each user and each item is of some pair

    Returns
    -------
    left, right : (n_items, r) float32, r at most `RANK`
    """
    from scipy import sparse  # takes a second, and a worker only reads weights
    from scipy.sparse.linalg import svds

    size, degree = np.bincount(users), np.bincount(items) ** TEMPER
    values = 1.0 / np.sqrt(size[users]) / degree[items]
    normal = sparse.csr_matrix((values, (users, items)), (len(size), len(degree)))
    rank = min(RANK, min(normal.shape) - 1)
    if rank < 1:
        nothing = np.zeros((len(degree), 0), np.float32)
        return nothing, nothing
    _, values, v = svds(normal, rank, v0=np.ones(min(normal.shape)))
    v = v[values > MIN_SHARE * values.max()]
    vectors = v.T / degree[:, None], v.T * degree[:, None]
    return vectors[0].astype(np.float32), vectors[1].astype(np.float32)
