"""EASE for items that nobody has met: their weights, from those of items that are like them.

EASE knows an item by who liked it. Ridge regression maps what an item says of itself to its column of EASE's
weights, as attribute-to-feature mappings do for factors (Gantner et al. 2010, "Learning attribute-to-feature
mappings for cold-start recommendations"). It is solved in its dual, over items, and kept as a few numbers for
each entity and each dimension of an embedding, so that an item described today is scored today.

Of more than `DENSE_ITEMS` items no matrix of items x items is made: what is learned from are the `LEARNED`
whose likes say most.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_core.arrays import are_finite, read_arrays
from model_core.data.batches import ItemBatch
from model_core.signals.ease import DENSE_ITEMS, Ease

EMBEDDINGS = ("text", "image", "audio")
RANK = 256
GRAPH_WEIGHTS, PENALTIES = (1.0, 4.0, 16.0), (3.0, 10.0, 30.0)
COMPARED = 1000
"""Items among which weight and penalty are chosen."""

LEARNED = 1024
"""Items that a mapping is learned from, and whose likes place new items, in a large catalogue."""
AS_NEW = 1024
"""Weights on items as new ones that each of these keeps there."""
BLOCK = 4096

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ridge:
    """Settings of a ridge regression: the graph's weight beside each embedding's 1, and the penalty."""

    graph_weight: float = 4.0
    penalty: float = 10.0


@dataclass(frozen=True, slots=True)
class ItemMapping:
    """Gives any described item a place; EASE's weights on an item at place z are ``z @ weights``.

    entities : (n_entities + 1, r) float32, by the release's rows; of row 0 zero
    embeddings : of text, image and audio (d, r) float32, by name
    centres : their means (d,) float32, by name
    weights : (r, n_items) float32, by liked item
    """

    entities: Matrix
    embeddings: Mapping[str, Matrix]
    centres: Mapping[str, Matrix]
    weights: Matrix

    def places(self, items: ItemBatch) -> Matrix:
        """Map items to places by their features: (n, r); an item without any is at 0."""
        size = np.sqrt(np.maximum(items.edge_mask.sum(1, keepdims=True), 1)).astype(np.float32)
        used = items.edge_mask.any(0)  # most items have few edges
        edges = np.where(items.edge_mask[:, used], items.entities[:, used], 0)
        linked = self.entities[edges].sum(1)
        places: Matrix = linked / size
        for name in EMBEDDINGS:
            places += _directions(items, name, self.centres[name]) @ self.embeddings[name]
        return places

    def save(self, path: Path) -> None:
        """Write as .npz; equal mappings give equal bytes."""
        named: dict[str, Any] = {"entities": self.entities, "weights": self.weights, **self.embeddings}
        named |= {f"{name}_centre": centre for name, centre in self.centres.items()}
        with path.open("wb") as file:
            np.savez(file, **named)

    @classmethod
    def load(cls, path: Path) -> "ItemMapping":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file is not of that kind, or its parts do not fit together.
        """
        what = "an item mapping"
        entities, weights, *of_embeddings = read_arrays(
            path, what, "entities", "weights", *EMBEDDINGS, *(f"{name}_centre" for name in EMBEDDINGS)
        )
        embeddings, centres = of_embeddings[: len(EMBEDDINGS)], of_embeddings[len(EMBEDDINGS) :]
        finite = are_finite(entities, weights, *embeddings, ndim=2) and are_finite(*centres, ndim=1)
        if not finite or {one.shape[1] for one in (entities, *embeddings)} != {len(weights)}:
            raise ValueError(f"{str(path)!r} must hold {what}: finite float32, of one number of places")
        return cls(
            entities, dict(zip(EMBEDDINGS, embeddings, strict=True)),
            dict(zip(EMBEDDINGS, centres, strict=True)), weights,
        )  # fmt: skip


class ItemFeatures:
    """Features of items, as rows whose inner products are kernels.

    Entities are rows of unit length, embeddings unit vectors about their mean: what all texts share tells no
    items apart.
    """

    def __init__(self, items: ItemBatch, n_entities: int) -> None:
        from scipy import sparse  # takes a second, and a worker only reads a mapping

        mask = items.edge_mask
        row, column = np.nonzero(mask)
        size = np.sqrt(np.maximum(mask.sum(1), 1))
        self.entities = sparse.csr_matrix(
            ((1.0 / size[row]).astype(np.float32), (row, items.entities[row, column])),
            (len(mask), n_entities + 1),
        )
        self.centres = {name: _centre(items, name) for name in EMBEDDINGS}
        self.embeddings = {name: _directions(items, name, self.centres[name]) for name in EMBEDDINGS}
        self._whole: tuple[Matrix, Matrix] | None = None
        if len(mask) <= DENSE_ITEMS:
            everything = np.arange(len(mask))
            self._whole = self._products(everything, everything)

    @property
    def n_items(self) -> int:
        """Items described."""
        return int(self.entities.shape[0])

    def kernel(self, ridge: Ridge, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> Matrix:
        """Similarity of some items to others: (len(rows), len(columns))."""
        if self._whole is None:
            graph, content = self._products(rows, columns)
        else:
            at = np.ix_(rows, columns)
            graph, content = self._whole[0][at], self._whole[1][at]
        kernel: Matrix = np.float32(ridge.graph_weight) * graph + content
        return kernel

    def _products(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> tuple[Matrix, Matrix]:
        """Inner products by entities, and by embeddings."""
        graph = np.asarray((self.entities[rows] @ self.entities[columns].T).todense(), np.float32)
        content = sum((one[rows] @ one[columns].T for one in self.embeddings.values()), np.zeros_like(graph))
        return graph, content

    def places(self, mapping: ItemMapping, rows: NDArray[np.integer]) -> Matrix:
        """`ItemMapping.places` of some items."""
        places: Matrix = self.entities[rows] @ mapping.entities
        for name, one in self.embeddings.items():
            places = places + one[rows] @ mapping.embeddings[name]
        return places


def fit_mapping(ease: Ease, features: ItemFeatures, ridge: Ridge | None = None) -> ItemMapping:
    """Learn the mapping from the items that EASE knows, keeping `RANK` dimensions at most.

    Regression shrinks, and would put new items behind all known ones: what it makes is scaled by one factor,
    so that a new item's weights are as large as a known one's in the root mean square.

    Parameters
    ----------
    features
        Of all of EASE's items, or more.
    ridge
        Chosen by the error on left-out items when it is left out.
    """
    known = _known(ease)
    ridge = ridge or choose_ridge(ease, features)
    solved, left_out, factor = _solve(ease, features, known, ridge)
    u, s, v = _truncated(factor * solved)
    weights = np.zeros((len(v), ease.n_items), np.float32)
    weights[:, known] = v
    return ItemMapping(*linear_map(features, known, u * s, ridge), features.centres, weights)


def weights_as_new(ease: Ease, features: ItemFeatures, ridge: Ridge) -> Ease:
    """Weights that each item would have were it new, of the same liked items.

    A known item's are made without its own likes: leave-one-out, in closed form. In a large catalogue each
    liked item keeps the `AS_NEW` largest.
    """
    known = _known(ease)
    solved, left_out, factor = _solve(ease, features, known, ridge)
    others = np.setdiff1d(np.arange(ease.n_items), known)
    whole = ease.n_items <= DENSE_ITEMS
    weights, on = (factor * left_out).T, np.tile(known, (len(known), 1))
    step = max(1, len(others)) if whole else BLOCK
    for begin in range(0, len(others), step):
        some = others[begin : begin + step]
        made = factor * (features.kernel(ridge, some, known) @ solved).T
        weights, on = np.hstack((weights, made)), np.hstack((on, np.tile(some, (len(known), 1))))
        if not whole and weights.shape[1] > AS_NEW:
            largest = np.argpartition(-np.abs(weights), AS_NEW - 1, axis=1)[:, :AS_NEW]
            weights = np.take_along_axis(weights, largest, 1)
            on = np.take_along_axis(on, largest, 1)
    return Ease.of_rows(known, on, weights, ease.n_items)


def choose_ridge(ease: Ease, features: ItemFeatures) -> Ridge:
    """Weight of the graph and penalty that predict left-out items' weights best."""
    some = _some(_known(ease))
    return best_ridge(_columns(ease, some), features, some)


def best_ridge(wanted: Matrix, features: ItemFeatures, rows: NDArray[np.integer]) -> Ridge:
    """Weight of the graph and penalty that predict what is wanted of left-out items best.

    Parameters
    ----------
    wanted : (len(rows), m) float32, of the items `rows`; at most `COMPARED` of them are looked at
    """
    at = _some(np.arange(len(rows)))

    def error(ridge: Ridge) -> float:
        return float(np.square(wanted[at] - regress(wanted[at], features, rows[at], ridge)[1]).sum())

    return min((Ridge(*pair) for pair in product(GRAPH_WEIGHTS, PENALTIES)), key=error)


def regress(
    wanted: Matrix, features: ItemFeatures, rows: NDArray[np.integer], ridge: Ridge
) -> tuple[Matrix, Matrix]:
    """Dual coefficients for what is wanted of some items, and leave-one-out predictions of it.

    With G = (K + penalty I)^-1 they are G Y and Y - G Y / diag(G) (Rifkin & Lippert 2007, "Notes on
    regularized least squares", equation 12).

    Parameters
    ----------
    wanted : (len(rows), m) float32
    """
    import torch  # takes seconds, and a worker only reads mappings

    regular = torch.as_tensor(features.kernel(ridge, rows, rows), dtype=torch.float32)
    regular.diagonal().add_(ridge.penalty)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(regular))
    solved = (inverse @ torch.as_tensor(wanted)).numpy()
    left_out = wanted - solved / inverse.diagonal().numpy()[:, None]
    return solved.astype(np.float32), left_out.astype(np.float32)


def linear_map(
    features: ItemFeatures, rows: NDArray[np.integer], dual: Matrix, ridge: Ridge
) -> tuple[Matrix, dict[str, Matrix]]:
    """Dual coefficients (len(rows), r) as numbers of each entity, (n_entities + 1, r), and each embedding."""
    entities = np.float32(ridge.graph_weight) * (features.entities[rows].T @ dual)
    return np.asarray(entities, np.float32), {
        name: one[rows].T @ dual for name, one in features.embeddings.items()
    }


def extend_ease(ease: Ease, weights: Matrix, new: NDArray[np.integer], *, keep: int = 256) -> Ease:
    """Give new items the weights that `fit_mapping` or a mapping made for them; the others' weights stay.

    Parameters
    ----------
    ease
        Over all rows; those of `new` must have no weights.
    weights : (n_items, len(new)) float32, row = liked
    keep
        Weights on new items kept per liked item, the largest in absolute value.

    Raises
    ------
    ValueError
        If a new item has weights already, or `weights` has another shape.
    """
    if weights.shape != (ease.n_items, len(new)):
        raise ValueError(f"weights must be of shape {(ease.n_items, len(new))}, got {weights.shape}")
    if np.isin(ease.items[ease.weights != 0], new).any():
        raise ValueError("new items must have no weights in EASE, got some")
    liked, column = np.nonzero(weights)
    bounds = np.searchsorted(liked, np.arange(ease.n_items + 1)).astype(np.int64)
    more = Ease(bounds, np.asarray(new)[column].astype(np.int32), weights[liked, column])
    return ease.joined(more.on(new, keep=keep))


def _known(ease: Ease) -> NDArray[np.int64]:
    """Items with weights; in a large catalogue those whose being liked moves the others' scores most."""
    known = np.flatnonzero(np.diff(ease.bounds))
    if ease.n_items <= DENSE_ITEMS or len(known) <= LEARNED:
        return known
    weight = np.add.reduceat(np.abs(ease.weights), ease.bounds[known])
    return np.sort(known[np.argsort(-weight, kind="stable")[:LEARNED]])


def _some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `COMPARED` of some rows, spread evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), COMPARED)).astype(np.int64)]


def _columns(ease: Ease, items: NDArray[np.int64]) -> Matrix:
    """Weights on some items, of the same items: (len(items), len(items)), row = the one they are on."""
    return ease.block(items, items).T


def _solve(
    ease: Ease, features: ItemFeatures, known: NDArray[np.int64], ridge: Ridge
) -> tuple[Matrix, Matrix, float]:
    """`regress` for the weights of the known items, and the factor for both of its results."""
    wanted = _columns(ease, known)
    solved, left_out = regress(wanted, features, known, ridge)
    made = np.square(left_out).sum()
    factor = float(np.sqrt(np.square(wanted).sum() / made)) if made > 0 else 1.0
    return solved, left_out, factor


def _truncated(matrix: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Singular value decomposition, of rank `RANK` at most."""
    if not matrix.any():
        matrix = np.zeros((len(matrix), 1), np.float32)
        return matrix, np.zeros(1, np.float32), matrix.T
    if min(matrix.shape) <= RANK + 1:
        u, s, v = np.linalg.svd(matrix, full_matrices=False)
    else:
        from scipy.sparse.linalg import svds

        u, s, v = svds(matrix, RANK, v0=np.ones(min(matrix.shape), np.float32))
    return u.astype(np.float32), s.astype(np.float32), v.astype(np.float32)


def _centre(items: ItemBatch, name: str) -> Matrix:
    vectors, there = getattr(items, name), getattr(items, f"{name}_mask")
    mean: Matrix = (
        vectors[there].mean(0, dtype=np.float64).astype(np.float32)
        if there.any()
        else np.zeros(vectors.shape[1], np.float32)
    )
    return mean


def _directions(items: ItemBatch, name: str, centre: Matrix) -> Matrix:
    vectors = getattr(items, name) - centre
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    there = getattr(items, f"{name}_mask")[:, None] & (norm > 0)
    unit: Matrix = np.where(there, vectors / np.where(there, norm, 1.0), 0.0).astype(np.float32)
    return unit
