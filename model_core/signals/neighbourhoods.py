"""EASE for catalogues whose inverse would not fit: each item by its neighbours alone.

The weights on item j are ridge regression of j on what is most often liked together with it, N: with the
same Gram matrix and penalty, ``(G[N, N] + penalty I) w = G[N, j]``. Restricting linear models to nearest
neighbours costs them little (Ning & Karypis 2011, "SLIM", section IV, fsSLIM). Time grows with the number of
items and with the pairs that users like, memory with the number of items alone.
"""

import numba
import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 64
"""Items that the weights on an item are solved over."""
COUNTED = 512
"""Items whose count of users in common with an item is known, the highest; the others' counts as 0."""
LAST = 256
"""Likes of a user that are counted, the last ones: pairs grow with their square."""

njit = numba.njit(cache=True, nogil=True)

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.float32]


def neighbourhood_weights(
    users: NDArray[np.integer],
    items: NDArray[np.integer],
    shares: Floats,
    *,
    penalty: float,
) -> tuple[Rows, Floats]:
    """Solve the weights on each item over its neighbours.

    Parameters
    ----------
    users, items : (n,) rows from 0, in the order of likes, no pair twice; each item is liked by somebody
    shares : (n_users,) float32, how much each user counts

    Returns
    -------
    neighbours : (n_items, NEIGHBOURS) int32, the liked items that have a weight on each, -1 = fewer
    weights : (n_items, NEIGHBOURS) float32
    """
    n_users, n_items = len(shares), int(items.max()) + 1
    order = np.argsort(users, kind="stable")
    bounds = np.searchsorted(users[order], np.arange(n_users + 1))
    liked = items[order].astype(np.int32)
    begins = np.maximum(bounds[:-1], bounds[1:] - LAST)
    counted = np.arange(len(liked)) >= np.repeat(begins, np.diff(bounds))
    by_item = np.argsort(np.where(counted, liked, n_items), kind="stable")[: int(counted.sum())]
    item_bounds = np.searchsorted(liked[by_item], np.arange(n_items + 1))
    owners = np.repeat(np.arange(n_users, dtype=np.int32), np.diff(bounds))[by_item]
    sizes = np.zeros(n_items, np.int64)
    others = np.empty((n_items, min(COUNTED, n_items)), np.int32)
    counts = np.empty(others.shape, np.float32)
    _count(begins, bounds, liked, item_bounds, owners, shares, sizes, others, counts)
    popularity = np.bincount(liked[by_item], shares[owners], minlength=n_items)
    neighbours = np.full((n_items, NEIGHBOURS), -1, np.int32)
    weights = np.zeros(neighbours.shape, np.float32)
    _solve(popularity, sizes, others, counts, float(penalty), neighbours, weights)
    return neighbours, weights


@njit
def _count(  # type: ignore[no-untyped-def]
    begins, bounds, liked, item_bounds, owners, shares, sizes, others, counts
):
    """Users in common of each item with the others, of the highest numbers only, by ascending item.

    What is noted is the sum of how much these users count.
    """
    n_items, most = others.shape
    amount = np.zeros(n_items, np.float32)
    total, touched = np.zeros(n_items, np.int32), np.empty(n_items, np.int32)
    histogram = np.zeros(1 << 16, np.int64)
    for item in range(n_items):
        n = 0
        for at in range(item_bounds[item], item_bounds[item + 1]):
            user = owners[at]
            for k in range(begins[user], bounds[user + 1]):
                other = liked[k]
                if total[other] == 0:
                    touched[n] = other
                    n += 1
                total[other] += 1
                amount[other] += shares[user]
        total[item] = 0
        amount[item] = 0.0
        least, ties = _threshold(total, touched[:n], most, histogram)
        mine = np.sort(touched[:n])
        size = 0
        for other in mine:
            count, sum_of = total[other], amount[other]
            total[other] = 0
            amount[other] = 0.0
            if count == least:
                if ties == 0:
                    continue
                ties -= 1
            elif count < least:
                continue
            others[item, size] = other
            counts[item, size] = sum_of
            size += 1
        sizes[item] = size


@njit
def _threshold(total, touched, most, histogram):  # type: ignore[no-untyped-def]
    """Lowest count that is kept, and how many of that count."""
    highest, last = 0, len(histogram) - 1
    for other in touched:
        count = min(total[other], last)
        histogram[count] += 1
        highest = max(highest, count)
    room, least, ties = most, 1, len(touched)
    for count in range(highest, 0, -1):
        if histogram[count] >= room:
            least, ties = count, room
            break
        room -= histogram[count]
    histogram[: highest + 1] = 0
    return least, ties


@njit
def _solve(popularity, sizes, others, counts, penalty, neighbours, weights):  # type: ignore[no-untyped-def]
    most = neighbours.shape[1]
    gram, right = np.empty((most, most)), np.empty(most)
    for item in range(len(sizes)):
        size = sizes[item]
        told = np.empty(size)
        for k in range(size):
            told[k] = counts[item, k] / np.sqrt(popularity[others[item, k]] + penalty)
        chosen = np.sort(np.argsort(-told)[:most])
        n = len(chosen)
        for a in range(n):
            one = others[item, chosen[a]]
            neighbours[item, a] = one
            right[a] = counts[item, chosen[a]]
            gram[a, a] = popularity[one] + penalty
            for b in range(a):
                gram[a, b] = _common(sizes, others, counts, one, neighbours[item, b])
        _ridge(gram, right, n)
        for a in range(n):
            weights[item, a] = right[a]


@njit
def _common(sizes, others, counts, one, two):  # type: ignore[no-untyped-def]
    """Users in common of two items, as either of them knows."""
    if sizes[one] > sizes[two]:
        one, two = two, one
    for item, other in ((one, two), (two, one)):
        mine = others[item, : sizes[item]]
        at = np.searchsorted(mine, other)
        if at < len(mine) and mine[at] == other:
            return counts[item, at]
    return np.float32(0.0)


@njit
def _ridge(gram, right, n):  # type: ignore[no-untyped-def]
    """Solve in place by Cholesky's decomposition of the lower half."""
    for a in range(n):
        for b in range(a + 1):
            value = gram[a, b]
            for k in range(b):
                value -= gram[a, k] * gram[b, k]
            if a == b:
                gram[a, a] = np.sqrt(max(value, 1e-6))
            else:
                gram[a, b] = value / gram[b, b]
        value = right[a]
        for k in range(a):
            value -= gram[a, k] * right[k]
        right[a] = value / gram[a, a]
    for a in range(n - 1, -1, -1):
        value = right[a]
        for k in range(a + 1, n):
            value -= gram[k, a] * right[k]
        right[a] = value / gram[a, a]
