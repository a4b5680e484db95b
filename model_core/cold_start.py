"""EASE for items that nobody has met: their weights, from those of items that are like them.

EASE knows an item by who liked it. Kernel ridge regression (Saunders, Gammerman & Vovk 1998, "Ridge
regression learning algorithm in dual variables") maps what an item says of itself to its column of EASE's
weights, as attribute-to-feature mappings do for factors (Gantner et al. 2010, "Learning attribute-to-feature
mappings for cold-start recommendations"). What comes out is EASE again: it serves wherever EASE does.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from model_core.ease import Ease

PENALTY = 10.0
"""Ridge penalty that suits a kernel whose diagonal is a few ones."""


def item_mapping(
    kernel: NDArray[np.floating],
    known: NDArray[np.integer],
    new: NDArray[np.integer],
    *,
    penalty: float = PENALTY,
) -> NDArray[np.float32]:
    """Weights that make new items of known ones: (K + penalty I)^-1 K[known, new], (len(known), len(new)).

    Parameters
    ----------
    kernel : (n_items, n_items), positive semidefinite; sums of `model_core.fused_linear`'s kernels do
    known, new : item rows without one in common

    Raises
    ------
    ValueError
        If the penalty is not positive, the kernel is not finite or not square, or an item is in both parts.
    """
    if penalty <= 0:
        raise ValueError(f"penalty must be positive, got {penalty}")
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"kernel must be square, got {kernel.shape}")
    if not np.isfinite(kernel).all():
        raise ValueError("kernel must be finite, got NaN or infinity")
    if len(both := np.intersect1d(known, new)):
        raise ValueError(f"known and new must have no item in common, got row {both[0]} in both")
    regular = torch.as_tensor(kernel[np.ix_(known, known)], dtype=torch.float64)
    regular.diagonal().add_(penalty)
    like = torch.as_tensor(kernel[np.ix_(known, new)], dtype=torch.float64)
    mapping = torch.cholesky_solve(like, torch.linalg.cholesky(regular))
    return np.asarray(mapping.numpy(), np.float32)


def extend_ease(
    ease: Ease,
    mapping: NDArray[np.float32],
    known: NDArray[np.integer],
    new: NDArray[np.integer],
    *,
    keep: int = 256,
) -> Ease:
    """Give new items the weights that `mapping` makes of the known items' ones; the others' weights stay.

    Regression shrinks, and would put new items behind all known ones: what it makes is scaled by one factor,
    so that a new item's weights are as large as a known one's in the root mean square.

    Parameters
    ----------
    ease
        Over all rows; those of `new` must have no weights.
    mapping : (len(known), len(new)) float32, of `item_mapping`
    keep
        Weights on new items kept per liked item, the largest in absolute value.

    Raises
    ------
    ValueError
        If a new item has weights already, or the mapping has another shape.
    """
    if mapping.shape != (len(known), len(new)):
        raise ValueError(f"mapping must be of shape {(len(known), len(new))}, got {mapping.shape}")
    dense = ease.dense()
    if dense[:, new].any():
        raise ValueError("new items must have no weights in EASE, got some")
    made = dense[:, known] @ mapping
    if (size := float(np.square(made).mean())) > 0:
        made *= (float(np.square(dense[:, known]).mean()) / size) ** 0.5
    if keep < len(new):
        least = np.partition(np.abs(made), -keep, axis=1)[:, -keep, None]
        made[np.abs(made) < least] = 0.0
    dense[:, new] = made
    liked, items = np.nonzero(dense)
    bounds = np.searchsorted(liked, np.arange(ease.n_items + 1))
    return Ease(bounds.astype(np.int64), items.astype(np.int32), dense[liked, items])
