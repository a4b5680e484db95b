"""EASE, the closed-form companion of the model: what users like, as a linear function of what they liked.

Steck 2019, "Embarrassingly shallow autoencoders for sparse data", equation 8: with X the users' positive
items and G = X'X + penalty * I, the weight of item j for item i is -P[j, i] / P[i, i], P = inverse of G.
It remembers a whole history as a set, where co-visits and the transformer read its latest part in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numba
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


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

    def scores(self, liked: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Sum the weights of distinct liked items, and cut what is negative: (len(liked), n_items)."""
        out = np.zeros((len(liked), self.n_items), np.float32)
        for row, items in enumerate(liked):
            _add(self.bounds, self.items, self.weights, items.astype(np.int32, copy=False), out[row])
        return np.maximum(out, 0.0, out=out)

    def dense(self) -> NDArray[np.float32]:
        """Weights as a matrix: (n_items, n_items), row = liked."""
        matrix = np.zeros((self.n_items, self.n_items), np.float32)
        matrix[np.repeat(np.arange(self.n_items), np.diff(self.bounds)), self.items] = self.weights
        return matrix

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
            If the file is not of that kind.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(arrays["bounds"], arrays["items"], arrays["weights"])
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise ValueError(f"{str(path)!r} must hold EASE weights: {error}") from None


def fit_ease(
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    n_items: int,
    *,
    penalty: float = 300.0,
    keep: int = 256,
    device: "str | torch.device" = "cpu",
) -> Ease:
    """Fit on positive interactions; one pair twice counts once.

    Only items that somebody liked enter the inverse, so the cost is their number cubed.

    Parameters
    ----------
    users, items : (n,) int32 rows
    penalty
        Ridge penalty.
    keep
        Weights kept per liked item, the largest in absolute value.
    """
    import torch  # takes seconds, as does scipy, and a worker only reads weights
    from scipy import sparse

    known, column = np.unique(items, return_inverse=True)
    if not len(known):
        return Ease(np.zeros(n_items + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    who, row = np.unique(users, return_inverse=True)
    pairs = np.unique(row.astype(np.int64) * len(known) + column)
    x = sparse.csr_matrix(
        (np.ones(len(pairs), np.float32), (pairs // len(known), pairs % len(known))), (len(who), len(known))
    )
    gram = torch.as_tensor((x.T @ x).toarray()).to(device)
    gram.diagonal().add_(penalty)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    weights = inverse / -inverse.diagonal()
    weights.fill_diagonal_(0.0)
    kept = min(keep, len(known))
    chosen = weights.abs().topk(kept, dim=1).indices.sort(dim=1).values
    values = weights.gather(1, chosen).cpu().numpy()
    sizes = np.zeros(n_items, np.int64)
    sizes[known] = kept
    return Ease(
        np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))),
        known[chosen.cpu().numpy()].ravel().astype(np.int32),
        values.ravel().astype(np.float32),
    )


@numba.njit(cache=True, nogil=True)
def _add(bounds, items, weights, liked, out):  # type: ignore[no-untyped-def]
    for item in liked:
        for k in range(bounds[item], bounds[item + 1]):
            out[items[k]] += weights[k]
