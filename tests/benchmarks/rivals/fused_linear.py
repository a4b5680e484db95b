"""Knowledge-fused linear top-N: EASE over items and over users, each with side information, and a low pass.

Scores are a weighted sum of three linear reconstructions of the interactions X (users by items):

1. X B, where B is EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data", equation 8) with
   feature rows stacked under X (Jeunen, Van Balen & Goethals 2020, "Closed-form models for collaborative
   filtering with side-information"): the Gram matrix gains a weighted kernel for each feature group
   (genres, knowledge-graph entities, text), so like items predict each other without common users;
2. C' X, the same over users, whose Gram matrix gains the kernel of their attributes: what a user's
   neighbours met, each neighbour explained away by the others;
3. X L, a low-pass graph filter: projection on the first eigenvectors of the normalised item graph (the
   ideal filter of Shen et al. 2021, "How powerful is graph convolution for recommendation?", with a free
   exponent of item degree).

All are closed-form and take seconds for a few thousand items. With no kernels and no shares it is EASE.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg, sparse

from model_core.evaluation.topn import ranking_metrics, top_items

Matrix = NDArray[np.float32]
Kernels = Mapping[str, Matrix]


@dataclass(frozen=True, slots=True)
class FusedConfig:
    """What `tune` chooses on validation; the defaults suit ml-100k."""

    item_penalty: float = 400.0
    """Ridge penalty over items."""
    user_penalty: float = 300.0
    """Ridge penalty over users."""
    attributes: float = 10.0
    """Weight of the users' kernel."""
    rank: int = 24
    """Eigenvectors that the low pass keeps."""
    temper: float = 0.25
    """Exponent of item degree in the low pass: 0.5 normalises symmetrically, less favours popular items."""
    user_share: float = 0.4
    """Weight of the users' part beside the items' 1."""
    low_pass_share: float = 0.6
    """Weight of the low pass beside the items' 1."""
    kernels: Mapping[str, float] = field(default_factory=dict)
    """Weight of each item kernel; one that is not named has 0."""


@dataclass(frozen=True, slots=True)
class FusedLinear:
    """item_weights : (n_items, n_items), row = met; user_weights : (n_users, n_users), column = for whom."""

    item_weights: Matrix
    user_weights: Matrix

    def scores(self, x: Matrix) -> Matrix:
        """Score all items for the users that were fitted: (n_users, n_items).

        Parameters
        ----------
        x : (n_users, n_items) interactions as in `fit_fused`
        """
        scores: Matrix = x @ self.item_weights + self.user_weights.T @ x
        return scores

    def item_scores(self, x: Matrix) -> Matrix:
        """Score all items for users of any number, known or not, without the users' part."""
        scores: Matrix = x @ self.item_weights
        return scores


def entity_kernel(entities: Sequence[Iterable[Hashable]]) -> Matrix:
    """Cosine between rows of distinct entities, e.g. (relation, entity) edges: (n, n), zero for empty rows.

    Entities are the columns of an incidence matrix whose rows have unit length.
    """
    columns: dict[Hashable, int] = {}
    sets = [list(dict.fromkeys(row)) for row in entities]
    indices = [columns.setdefault(entity, len(columns)) for row in sets for entity in row]
    sizes = np.array([len(row) for row in sets], np.int64)
    values = np.repeat(1.0 / np.sqrt(np.maximum(sizes, 1)), sizes).astype(np.float32)
    bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    incidence = sparse.csr_matrix((values, indices, bounds), (len(sets), max(len(columns), 1)))
    kernel: Matrix = (incidence @ incidence.T).toarray()
    return kernel


def vector_kernel(vectors: NDArray[np.floating]) -> Matrix:
    """Cosine between vectors about their mean: (n, n); what all texts share tells no items apart."""
    centred = np.asarray(vectors, np.float32) - vectors.mean(0, dtype=np.float32)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(norm > 0, norm, 1.0)
    kernel: Matrix = unit @ unit.T
    return kernel


def ridge_without_self(gram: NDArray[np.floating], penalty: float) -> Matrix:
    """Weights that predict each column from all others: (n, n), zero diagonal (Steck 2019, equation 8).

    Parameters
    ----------
    gram : (n, n) positive semidefinite, of the columns and whatever rows are stacked under them
    penalty
        Ridge penalty.

    Raises
    ------
    ValueError
        If the penalty is not positive.
    """
    if penalty <= 0:
        raise ValueError(f"penalty must be positive, got {penalty}")
    regular = torch.tensor(gram, dtype=torch.float32)
    regular.diagonal().add_(penalty)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(regular))
    weights = inverse / -inverse.diagonal()
    weights.fill_diagonal_(0.0)
    return np.asarray(weights.numpy(), np.float32)


def low_pass(x: Matrix, rank: int, temper: float) -> Matrix:
    """Item-item weights of the ideal low-pass filter: (n_items, n_items).

    With V the first `rank` right singular vectors of Du^-1/2 X Di^-temper (D the degrees):
    Di^-temper V V' Di^temper.

    Raises
    ------
    ValueError
        If the rank is not in [1, min(x.shape)].
    """
    if not 1 <= rank <= min(x.shape):
        raise ValueError(f"rank must be in [1, {min(x.shape)}], got {rank}")
    degree = np.maximum(x.sum(0), 1.0) ** temper
    normal = x / np.sqrt(np.maximum(x.sum(1, keepdims=True), 1.0)) / degree
    users, items = x.shape
    size = min(users, items)
    small = normal @ normal.T if users <= items else normal.T @ normal
    values, vectors = linalg.eigh(small.astype(np.float64), subset_by_index=(size - rank, size - 1))
    if users <= items:
        vectors = normal.T @ vectors / np.sqrt(np.maximum(values, 1e-9))
    weights: Matrix = ((vectors / degree[:, None]) @ (vectors.T * degree)).astype(np.float32)
    return weights


def fit_fused(
    x: Matrix, item_kernels: Kernels, user_kernel: Matrix | None, config: FusedConfig
) -> FusedLinear:
    """Fit on the interactions of all users.

    Parameters
    ----------
    x : (n_users, n_items) float32, 1 where the user met the item, else 0
    item_kernels : name -> (n_items, n_items), positive semidefinite
    user_kernel : (n_users, n_users), positive semidefinite

    Raises
    ------
    ValueError
        If a kernel is weighted but absent, or a penalty or rank is out of range.
    """
    item_weights = _item_part(x, item_kernels, config)
    if config.low_pass_share:
        item_weights = item_weights + config.low_pass_share * low_pass(x, config.rank, config.temper)
    if config.user_share:
        user_weights = config.user_share * _user_part(x, user_kernel, config)
    else:
        user_weights = np.zeros((len(x), len(x)), np.float32)
    return FusedLinear(item_weights.astype(np.float32), user_weights.astype(np.float32))


def _item_part(x: Matrix, kernels: Kernels, config: FusedConfig) -> Matrix:
    absent = {name for name, weight in config.kernels.items() if weight} - set(kernels)
    if absent:
        raise ValueError(f"kernels must be among {sorted(kernels)}, got {sorted(absent)}")
    gram = x.T @ x
    for name, weight in config.kernels.items():
        if weight:
            gram += weight * kernels[name]
    return ridge_without_self(gram, config.item_penalty)


def _user_part(x: Matrix, kernel: Matrix | None, config: FusedConfig) -> Matrix:
    gram = x @ x.T
    if kernel is not None:
        gram += config.attributes * kernel
    return ridge_without_self(gram, config.user_penalty)


GRID: dict[str, tuple[float, ...]] = {
    "user_share": (0.0, 0.2, 0.4, 0.8),
    "low_pass_share": (0.0, 0.3, 0.6, 0.9),
    "item_penalty": (250.0, 400.0, 600.0),
    "user_penalty": (200.0, 300.0, 450.0),
    "attributes": (0.0, 5.0, 10.0, 20.0),
    "rank": (16, 20, 24, 28, 32),
    "temper": (0.2, 0.25, 0.3),
}
"""Values that `tune` tries for each field of `FusedConfig`."""
KERNEL_GRID = (0.0, 5.0, 10.0, 20.0, 40.0)
"""Values that `tune` tries for the weight of each item kernel."""


def tune(
    x: Matrix,
    validation: NDArray[np.bool_],
    item_kernels: Kernels,
    user_kernel: Matrix | None,
    *,
    k: int = 10,
    sweeps: int = 2,
) -> tuple[FusedConfig, float]:
    """Choose a config by NDCG@k on the validation part, one field after another; return it and its NDCG.

    Parameters
    ----------
    x : (n_users, n_items) float32, the training part
    validation : (n_users, n_items) bool
    """
    start = FusedConfig(kernels=dict.fromkeys(item_kernels, 10.0))
    best = replace(start, attributes=start.attributes if user_kernel is not None else 0.0)
    score = _validator(x, validation, item_kernels, user_kernel, k)
    reached = score(best)
    for _ in range(sweeps):
        before = best
        for name, values in [*GRID.items(), *((name, KERNEL_GRID) for name in item_kernels)]:
            if name == "attributes" and user_kernel is None:
                continue
            for value in values:
                tried = _with(best, name, value)
                if tried != best and (ndcg := score(tried)) > reached:
                    best, reached = tried, ndcg
        if best == before:
            break
    return best, reached


def _with(config: FusedConfig, name: str, value: float) -> FusedConfig:
    if name in config.kernels:
        return replace(config, kernels={**config.kernels, name: value})
    change: dict[str, Any] = {name: value}
    return replace(config, **change)


def _validator(
    x: Matrix,
    validation: NDArray[np.bool_],
    item_kernels: Kernels,
    user_kernel: Matrix | None,
    k: int,
) -> Callable[[FusedConfig], float]:
    """NDCG@k of a config; each part is fitted once for the fields that it reads."""
    seen = x > 0

    @cache
    def items(penalty: float, weights: tuple[tuple[str, float], ...]) -> Matrix:
        config = FusedConfig(item_penalty=penalty, kernels=dict(weights))
        return x @ _item_part(x, item_kernels, config)

    @cache
    def users(penalty: float, attributes: float) -> Matrix:
        config = FusedConfig(user_penalty=penalty, attributes=attributes)
        return _user_part(x, user_kernel, config).T @ x

    @cache
    def smooth(rank: int, temper: float) -> Matrix:
        return x @ low_pass(x, rank, temper)

    def score(config: FusedConfig) -> float:
        scores = items(config.item_penalty, tuple(sorted(config.kernels.items())))
        if config.user_share:
            scores = scores + config.user_share * users(config.user_penalty, config.attributes)
        if config.low_pass_share:
            scores = scores + config.low_pass_share * smooth(config.rank, config.temper)
        return float(np.nanmean(ranking_metrics(top_items(scores, seen, k), validation)["ndcg"]))

    return score
