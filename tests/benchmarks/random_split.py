"""The protocol of RecBole's general recommenders: interactions split 8:1:1 at random within each user.

Every item is ranked except those the user met in training (and, at test, in validation).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.evaluation.topn import Bools, Floats, Rows


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint parts of the interactions: train, validation, test : (n_users, n_items) bool."""

    train: Bools
    validation: Bools
    test: Bools


def random_split(
    users: NDArray[np.integer],
    items: NDArray[np.integer],
    n_users: int,
    n_items: int,
    *,
    seed: int,
    fractions: tuple[float, float] = (0.1, 0.1),
) -> Split:
    """Split each user's distinct items at random; what the held-out parts round off stays in training.

    As in RecBole, a held-out part that would be a fraction of one item gets one while training keeps
    another; the test part is served first.

    Parameters
    ----------
    users, items : (n,) rows
    fractions
        Of the validation and of the test part.

    Raises
    ------
    ValueError
        If the fractions are negative or leave nothing to train on.
    """
    if min(fractions) < 0 or sum(fractions) >= 1:
        raise ValueError(f"fractions must be at least 0 and sum to less than 1, got {fractions}")
    pairs = np.unique(np.asarray(users, np.int64) * n_items + items)
    pairs = np.random.default_rng(seed).permutation(pairs)
    pairs = pairs[np.argsort(pairs // n_items, kind="stable")]
    user, item = pairs // n_items, pairs % n_items
    size = np.bincount(user, minlength=n_users)
    place = np.arange(len(pairs)) - (np.cumsum(size) - size)[user]
    exact = np.outer(fractions, size) + 1e-9  # products such as 0.29 * 100 must not round below 29
    held = exact.astype(np.int64)
    train = size - held.sum(0)
    for part in (1, 0):
        lifted = (fractions[part] > 0) & (exact[part] < 1) & (train > 1)
        held[part] += lifted
        train -= lifted
    first, second = train[user], (train + held[0])[user]
    parts = []
    for chosen in (place < first, (place >= first) & (place < second), place >= second):
        matrix = np.zeros((n_users, n_items), np.bool_)
        matrix[user[chosen], item[chosen]] = True
        parts.append(matrix)
    return Split(*parts)


def recall_by_bucket(top: Rows, relevant: Bools, buckets: Rows) -> Floats:
    """Share of all relevant (user, item) pairs of a bucket that the lists hold: (n_buckets,), NaN if none."""
    n_buckets = int(buckets.max()) + 1
    listed = np.zeros_like(relevant)
    np.put_along_axis(listed, top, True, axis=1)
    found = np.bincount(buckets, (listed & relevant).sum(0), n_buckets)
    total = np.bincount(buckets, relevant.sum(0), n_buckets)
    return found / np.where(total > 0, total, np.nan)
