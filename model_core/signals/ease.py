"""EASE, the closed-form companion of the model: what users like, as a linear function of what they liked.

Steck 2019, "Embarrassingly shallow autoencoders for sparse data", equation 8: with X the users' positive
items, W how much each counts (`influence.likes_share`) and G = X'WX + penalty * I, the weight of item j for
item i is -P[j, i] / P[i, i], P = inverse of G.
It remembers a whole history as a set, where co-visits and the transformer read its latest part in order.
Of more than `DENSE_ITEMS` items each has the weights of `model_core.signals.neighbourhoods`. A share of a low
pass, `model_core.signals.low_pass`, may be added: both are linear in what was liked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.arrays import are_finite, read_arrays
from model_core.robust.influence import likes_share
from model_core.signals import sparse
from model_core.signals.liked_together import liked_together
from model_core.signals.low_pass import low_pass
from model_core.signals.neighbourhoods import neighbourhood_weights
from model_core.signals.sparse import Sums

DENSE_ITEMS = 4096
"""Items up to which a matrix of items x items is made: beyond, it would take most of the time and memory."""

BLOCK = 512
"""Liked items whose weights on all others are made at once."""

UNIT = float(1 << 30)
"""Weights are summed as whole numbers of 1 / UNIT, see `model_core.signals.sparse`."""

njit = numba.njit(cache=True, nogil=True)


class Rows(NamedTuple):
    """Rows of EASE's items among a worker's, and of the new items that it scores.

    row_of : (n_items,) int32, row of each item, -1 = none
    size : (n_items,) int32, others that each liked item has a weight on
    new_rows : (n_items, k) int32, their rows; new_weights : (n_items, k) float32
    """

    row_of: NDArray[np.int32]
    size: NDArray[np.int32]
    new_rows: NDArray[np.int32]
    new_weights: NDArray[np.float32]

    @classmethod
    def of(cls, ease: "Ease") -> "Rows":
        """The items themselves and no others."""
        n = ease.n_items
        return cls(
            np.arange(n, dtype=np.int32), np.zeros(n, np.int32),
            np.zeros((n, 0), np.int32), np.zeros((n, 0), np.float32),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ease:
    """Sparse weights: those of liked item j are ``weights[bounds[j]:bounds[j + 1]]``, for `items` alike.

    bounds : (n + 1,) int64; items : (nnz,) int32; weights : (nnz,) float32
    """

    bounds: NDArray[np.int64]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def n_items(self) -> int:
        """Items known."""
        return len(self.bounds) - 1

    def sparse_scores(
        self,
        bounds: NDArray[np.int64],
        liked: NDArray[np.int32],
        rows: Rows | None = None,
        n: int | None = None,
    ) -> Sums:
        """Sum the weights of what each of B users liked, repeats once, and leave out what is not positive.

        Parameters
        ----------
        bounds : (B + 1,) int64, liked : (m,) int32 items; negative ones are not known
        rows : `Rows`, where others than these items are to be scored
        n
            Rows to score, from 0 on; `n_items` when None.

        Returns
        -------
        bounds : (B + 1,) int64; rows : (M,) int32; values : (M,) float32
        """
        rows = rows or Rows.of(self)
        n = self.n_items if n is None else n
        found, at, sums = _sum(bounds, liked, self.bounds, self.items, self.weights, *rows, n)
        return found, at, (sums / UNIT).astype(np.float32)

    def dense(self) -> NDArray[np.float32]:
        """Weights as a matrix: (n_items, n_items), row = liked."""
        matrix = np.zeros((self.n_items, self.n_items), np.float32)
        matrix[np.repeat(np.arange(self.n_items), np.diff(self.bounds)), self.items] = self.weights
        return matrix

    def joined(self, other: "Ease") -> "Ease":
        """The weights of both, which are on different items."""
        liked = np.concatenate((_owners(self), _owners(other)))
        items = np.concatenate((self.items, other.items))
        weights = np.concatenate((self.weights, other.weights))
        return _by_liked(liked, items, weights, self.n_items)

    def plus(self, other: "Ease") -> "Ease":
        """The sums of the weights of both."""
        liked = np.concatenate((_owners(self), _owners(other)))
        items = np.concatenate((self.items, other.items))
        pairs, at = np.unique(liked * self.n_items + items, return_inverse=True)
        sums = np.bincount(at, np.concatenate((self.weights, other.weights))).astype(np.float32)
        return _by_liked(pairs // self.n_items, pairs % self.n_items, sums, self.n_items)

    def on(self, items: NDArray[np.integer], *, keep: int) -> "Ease":
        """The weights on some items, per liked item the `keep` largest in absolute value, with ties."""
        there = np.zeros(self.n_items, np.bool_)
        there[items] = True
        kept = there[self.items]
        liked, on, weights = _owners(self)[kept], self.items[kept], self.weights[kept]
        size = np.abs(weights)
        order = np.lexsort((-size, liked))
        first = np.searchsorted(liked[order], np.arange(self.n_items))
        last = np.minimum(first + keep - 1, len(order) - 1)
        enough = np.bincount(liked, minlength=self.n_items) >= keep
        least = np.where(enough, size[order][last], 0.0) if len(order) else np.zeros(self.n_items)
        large = size >= least[liked]
        return _by_liked(liked[large], on[large], weights[large], self.n_items)

    def _with_rows_of(self, known: NDArray[np.integer]) -> "Ease":
        """A weight of 0 on itself for each known item, which may have none: by that it is known."""
        liked = np.concatenate((_owners(self), known))
        items = np.concatenate((self.items, known))
        weights = np.concatenate((self.weights, np.zeros(len(known), np.float32)))
        return _by_liked(liked, items, weights, self.n_items, zeros=True)

    def block(self, liked: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.float32]:
        """Weights of some liked items on some items: (len(liked), len(items))."""
        place = np.full(self.n_items, -1, np.int64)
        place[items] = np.arange(len(items))
        matrix = np.zeros((len(liked), len(items)), np.float32)
        for row, item in enumerate(np.asarray(liked).tolist()):
            own = slice(self.bounds[item], self.bounds[item + 1])
            at = place[self.items[own]]
            matrix[row, at[at >= 0]] = self.weights[own][at >= 0]
        return matrix

    @classmethod
    def of_rows(
        cls,
        liked: NDArray[np.integer],
        items: NDArray[np.integer],
        weights: NDArray[np.float32],
        n_items: int,
    ) -> "Ease":
        """Those of some liked items (r,) on others: (r, k) both; weights of 0 are none."""
        return _by_liked(np.repeat(liked, items.shape[1]), items.ravel(), weights.ravel(), n_items)

    def save(self, path: Path) -> None:
        """Write as .npz; equal weights give equal bytes."""
        with path.open("wb") as file:
            np.savez(file, bounds=self.bounds, items=self.items, weights=self.weights)

    @classmethod
    def load(cls, path: Path) -> "Ease":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file is not of that kind, or compiled loops would read beyond its arrays.
        """
        what = "EASE weights"
        bounds, items, weights = read_arrays(path, what, "bounds", "items", "weights")
        if bounds.dtype != np.int64 or items.dtype != np.int32 or not are_finite(weights, ndim=1):
            raise ValueError(f"{str(path)!r} must hold {what}: int64, int32, and finite float32")
        whole = bounds.ndim == items.ndim == 1 and len(bounds) and len(items) == len(weights)
        if not whole or bounds[0] != 0 or bounds[-1] != len(items) or (bounds[1:] < bounds[:-1]).any():
            raise ValueError(f"{str(path)!r} must hold {what}: rows of which each begins where one ends")
        if len(items) and not (items.min() >= 0 and items.max() < len(bounds) - 1):
            raise ValueError(f"{str(path)!r} must hold {what} on its own {len(bounds) - 1} items")
        return cls(bounds, items, weights)


def fit_ease(
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    n_items: int,
    *,
    penalty: float = 300.0,
    keep: int = 256,
    low_pass_share: float = 0.0,
    full_likes: int = 0,
    near: float = 0.0,
) -> Ease:
    """Fit on positive interactions; one pair twice counts once.

    Only items that somebody liked enter. Of up to `DENSE_ITEMS` items the weights are those of the inverse,
    which costs their number cubed; of more, those of `neighbourhoods.neighbourhood_weights`.

    Parameters
    ----------
    users, items : (n,) int32 rows, in the order of likes
    penalty
        Ridge penalty.
    keep
        Weights kept per liked item, the largest in absolute value.
    low_pass_share
        Weight of the low pass beside EASE's 1.
    full_likes
        See `influence.likes_share`.
    near
        See `liked_together.liked_together`; neighbourhoods have none.
    """
    known, column = np.unique(items, return_inverse=True)
    if not len(known):
        return Ease(np.zeros(n_items + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    who, row = np.unique(users, return_inverse=True)
    _, last = np.unique((row.astype(np.int64) * len(known) + column)[::-1], return_index=True)
    likes = np.sort(len(row) - 1 - last)
    row, column = row[likes], column[likes]
    shares = likes_share(np.bincount(row), full_likes)
    smooth = None
    if low_pass_share:
        left, right = low_pass(row, column)
        smooth = np.float32(low_pass_share) * left, right
    if n_items > DENSE_ITEMS:
        neighbours, solved = neighbourhood_weights(row, column, shares, penalty=penalty)
        on, at = np.nonzero(neighbours >= 0)
        every = _by_liked(known[neighbours[on, at]], known[on], solved[on, at], n_items)
        if smooth is not None:
            every = every.plus(_largest(*smooth, known, n_items, keep=keep))
        return every.on(known, keep=keep)._with_rows_of(known)
    counts = liked_together(row, column, shares, len(known), near)
    return ease_of_counts(counts, known, n_items, penalty=penalty, keep=keep, smooth=smooth)


def ease_of_counts(
    counts: NDArray[np.float32],
    known: NDArray[np.integer],
    n_items: int,
    *,
    penalty: float,
    keep: int,
    smooth: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> Ease:
    """Fit on how many users like both of two items, each as much as they count.

    Parameters
    ----------
    counts : (k, k) float32, symmetric; its diagonal says how many like an item
    known : (k,) rows of these items, ascending
    smooth : (k, r) float32 factors of weights that are added, or None
    """
    import torch

    gram = torch.as_tensor(counts)
    gram.diagonal().add_(penalty)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    weights = inverse / -inverse.diagonal()
    if smooth is not None:
        weights += torch.as_tensor(smooth[0]) @ torch.as_tensor(smooth[1]).T
    weights.fill_diagonal_(0.0)
    kept = min(keep, len(known))
    chosen = weights.abs().topk(kept, dim=1).indices.sort(dim=1).values
    values = weights.gather(1, chosen).numpy()
    sizes = np.zeros(n_items, np.int64)
    sizes[known] = kept
    return Ease(
        np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))),
        known[chosen.numpy()].ravel().astype(np.int32),
        values.ravel().astype(np.float32),
    )


def _largest(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    known: NDArray[np.integer],
    n_items: int,
    *,
    keep: int,
) -> Ease:
    """The `keep` largest of ``left[i] @ right[j]`` for each of the known items i, in absolute value."""
    kept, chosen, weights = min(keep, len(known)), [], []
    for begin in range(0, len(known), BLOCK):
        part = left[begin : begin + BLOCK] @ right.T
        part[np.arange(len(part)), begin + np.arange(len(part))] = 0.0
        at = np.argpartition(-np.abs(part), kept - 1, axis=1)[:, :kept]
        chosen.append(at)
        weights.append(np.take_along_axis(part, at, 1))
    return Ease.of_rows(known, known[np.concatenate(chosen)], np.concatenate(weights), n_items)


def _owners(ease: Ease) -> NDArray[np.int64]:
    """The liked item of each weight."""
    return np.repeat(np.arange(ease.n_items), np.diff(ease.bounds))


def _by_liked(
    liked: NDArray[np.integer],
    items: NDArray[np.integer],
    weights: NDArray[np.float32],
    n_items: int,
    *,
    zeros: bool = False,
) -> Ease:
    """Weights in the order of liked items, then of items; those that are 0 are left out."""
    if not zeros:
        there = weights != 0
        liked, items, weights = liked[there], items[there], weights[there]
    order = np.lexsort((items, liked))
    bounds = np.searchsorted(liked[order], np.arange(n_items + 1))
    return Ease(bounds.astype(np.int64), items[order].astype(np.int32), weights[order])


@njit
def _sum(  # type: ignore[no-untyped-def]
    liked_bounds, liked, bounds, items, weights, row_of, size, new_rows, new_weights, n_rows
):
    total, marks = np.zeros(n_rows), np.zeros((n_rows + 63) >> 6, np.uint64)
    last = np.full(len(bounds) - 1, -1, np.int64)
    found = np.zeros(len(liked_bounds), np.int64)
    rows, sums = np.empty(1024, np.int32), np.empty(1024, np.float64)
    n = 0
    for b in range(len(liked_bounds) - 1):
        begin = n
        for at in range(liked_bounds[b], liked_bounds[b + 1]):
            item = liked[at]
            if item < 0 or last[item] == b:
                continue
            last[item] = b
            for k in range(bounds[item], bounds[item + 1]):
                row = row_of[items[k]]
                if 0 <= row < n_rows:
                    sparse.add(total, marks, row, np.rint(np.float64(weights[k]) * UNIT))
            for k in range(size[item]):
                if new_rows[item, k] < n_rows:
                    sparse.add(
                        total, marks, new_rows[item, k], np.rint(np.float64(new_weights[item, k]) * UNIT)
                    )
        rows, sums, end = sparse.take(total, marks, rows, sums, n)
        for k in range(begin, end):
            if sums[k] > 0:
                rows[n], sums[n] = rows[k], sums[k]
                n += 1
        found[b + 1] = n
    return found, rows[:n].copy(), sums[:n].copy()
