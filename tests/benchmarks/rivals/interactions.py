"""Pairs of users and items as graphs: who met what, and which items are alike."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Matrix = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interactions:
    """Distinct pairs and the sizes they are rows of; users, items : (n,) int64."""

    users: Rows
    items: Rows
    n_users: int
    n_items: int

    def __post_init__(self) -> None:
        if self.users.shape != self.items.shape or self.users.ndim != 1:
            raise ValueError(
                f"users and items must be of one length, got {self.users.shape}, {self.items.shape}"
            )
        for name, rows, size in (("users", self.users, self.n_users), ("items", self.items, self.n_items)):
            if len(rows) and not (rows.min() >= 0 and rows.max() < size):
                raise ValueError(f"{name} must be in [0, {size}), got {rows.min()} .. {rows.max()}")


def choose_targets(train: Interactions, most: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw up to `most` interactions of each user, and at most half of them: (n,) bool."""
    order = rng.permutation(len(train.users))
    order = order[np.argsort(train.users[order], kind="stable")]
    size = np.bincount(train.users, minlength=train.n_users)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - (np.cumsum(size) - size)[train.users[order]]
    return place < np.minimum(most, size // 2)[train.users]


def neighbour_graph(features: Matrix, k: int, *, block: int = 1024) -> Tensor:
    """Mean over the k items most like each by cosine about the mean, as sparse (n_items, n_items).

    Items whose features are NaN neither have nor are neighbours.

    Raises
    ------
    ValueError
        If fewer than k + 1 items have features.
    """
    known = np.flatnonzero(~np.isnan(features).any(1))
    if not 1 <= k < len(known):
        raise ValueError(f"k must be in [1, {len(known) - 1}], the other items with features, got {k}")
    centred = torch.from_numpy(features[known] - features[known].mean(0))
    unit = functional.normalize(centred, dim=1)
    nearest = []
    for begin in range(0, len(known), block):
        like = unit[begin : begin + block] @ unit.T
        like.diagonal(begin).fill_(-torch.inf)
        nearest.append(like.topk(k, dim=1).indices)
    rows = np.repeat(known, k)
    columns = known[torch.cat(nearest).numpy().ravel()]
    return _sparse(rows, columns, np.full(len(rows), 1 / k), len(features))


def interaction_graph(data: Interactions, user_discount: float) -> Tensor:
    """LightGCN's propagation, users first, with a discount on what busy users tell items."""
    by_user = np.bincount(data.users, minlength=data.n_users)[data.users]
    by_item = np.bincount(data.items, minlength=data.n_items)[data.items]
    weight = 1 / np.sqrt(by_user * by_item)
    items = data.items + data.n_users
    graph = _sparse(
        np.concatenate((data.users, items)),
        np.concatenate((items, data.users)),
        np.concatenate((weight, weight * by_user**-user_discount)),
        data.n_users + data.n_items,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return graph.to_sparse_csr()  # else PyG converts it at each layer


def _sparse(rows: Rows, columns: Rows, values: NDArray[np.floating], size: int) -> Tensor:
    return torch.sparse_coo_tensor(
        torch.from_numpy(np.stack((rows, columns))),
        torch.from_numpy(values.astype(np.float32)),
        (size, size),
        check_invariants=False,
    ).coalesce()
