"""Items by who is taken with them: a spectral embedding of the graph of co-visits.

Two items are as near as the same users take them one soon after the other. It is what a network that reads
histories would learn of an item first, and of an item with few events hardly ever does.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

Rows = NDArray[np.integer]


def pairs_in_order(
    users: Rows, items: Rows, n_items: int, *, window: int, decay: float
) -> "sparse.csr_matrix":
    """Weights of item pairs: ``decay ** (d - 1)`` for each time the second came d events after the first.

    Added to its transpose, it is what `model_core.signals.co_visitation.CoVisitation` counts.

    Parameters
    ----------
    users, items : (n,) rows from 0, each user's events next to each other and in their order
    window : events before one that it is paired with

    Returns
    -------
    weights : (n_items, n_items), row = the earlier item
    """
    from scipy import sparse  # takes a second, and a worker embeds nothing

    shape = (n_items, n_items)
    total = sparse.csr_matrix(shape, dtype=np.float32)
    for distance in range(1, min(window, len(items) - 1) + 1):
        same = users[distance:] == users[:-distance]
        first, second = items[:-distance][same], items[distance:][same]
        weight = np.full(len(first), decay ** (distance - 1), np.float32)
        total = total + sparse.csr_matrix((weight, (first, second)), shape)
    return total


def spectral_embedding(weights: "sparse.csr_matrix", dim: int) -> NDArray[np.float32]:
    """Embed the nodes of a graph.

    They lie along the first eigenvectors of its normalised weights, each as long as the root of its
    eigenvalue. To degrees their mean is added, so that small parts of the graph that hang on few edges do
    not take up the eigenvectors (Qin & Rohe 2013, "Regularized spectral clustering under the degree-corrected
    stochastic blockmodel").

    Parameters
    ----------
    weights : (n, n) from a node to another, of either direction; loops do not count

    Returns
    -------
    vectors : (n, dim) of length 1; of length 0 where a node has no edge
    """
    from scipy import sparse
    from scipy.sparse.linalg import eigsh

    n = weights.shape[0]
    vectors = np.zeros((n, dim), np.float32)
    both = weights + weights.T
    both = (both - sparse.diags(both.diagonal())).astype(np.float64)
    degrees = np.asarray(both.sum(1)).ravel()
    if n < 3 or not degrees.any():
        return vectors
    scale = sparse.diags(1.0 / np.sqrt(degrees + degrees.mean()))
    values, along = eigsh(scale @ both @ scale, min(dim, n - 1), which="LA", v0=np.ones(n))
    vectors[:, : len(values)] = along * np.sqrt(np.clip(values, 0.0, None))
    vectors[degrees == 0.0] = 0.0
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(vectors, lengths, out=vectors, where=lengths > 0.0)
    return unit
