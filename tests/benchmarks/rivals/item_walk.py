"""Top-N by short walks between items: over common users, and over items that look or sound alike.

A closed-form companion of `multimodal` for short histories. From the items a user met, each path spreads
mass over the catalogue; scores are a weighted sum of paths, the weights chosen on validation:

- "met": one step over co-visits, S[i, j] = p_i^-a * sum over common users of n_u^-b, where n_u is the number
  of items of user u and p_i = sum over the item's users of n_u^-b (RP3 random walks, Paudel et al. 2017,
  "Updatable, accurate, diverse, and scalable recommendations for interactive applications", with a free
  exponent of the user's degree), cut to the strongest `kept`;
- "met+met": two such steps, each with rows scaled to sum 1;
- "popularity": p with b = 1, the same for everybody;
- NAME, "met+NAME", "NAME+met": a step to the items most like by that modality, alone, after or before a
  step over co-visits. Only these reach items that nobody met.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tests.benchmarks.rivals.interactions import Interactions, Matrix, Rows, neighbour_graph

GRID = (0.0, 0.03, 0.1, 0.3, 1.0)
"""Weights that `tune_walk` tries for each path but the first, whose weight is 1."""


@dataclass(frozen=True, slots=True)
class WalkConfig:
    """Exponents and widths; the defaults were chosen on the validation part of the TikTok data."""

    user_discount: float = 1.5
    """b: how much less a user of many items tells about each pair of them."""
    item_discount: float = 0.5
    """a: how much less a popular item met leads on."""
    kept: int = 50
    """Strongest co-visits of an item that a step goes over."""
    neighbours: int = 20
    """Items most like an item by a modality that a step goes to, all alike."""


@dataclass(frozen=True, slots=True)
class ItemWalk:
    """Paths of known users over the catalogue; `steps` are (n_items, n_items) sparse."""

    met: sparse.csr_matrix
    """(n_users, n_items), each user's row sums to 1."""
    steps: Mapping[str, tuple[sparse.csr_matrix, ...]]
    popularity: Matrix
    scale: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All paths, "met" first."""
        return (*self.steps, "popularity")

    def path(self, name: str, users: Rows) -> Matrix:
        """Mass that a path brings to each item, 1 on the mean over users: (len(users), n_items) float32."""
        if name == "popularity":
            return np.tile(self.popularity, (len(users), 1))
        mass = self.met[users]
        for step in self.steps[name]:
            mass = mass @ step
        found: Matrix = mass.toarray()
        return found / np.float32(self.scale[name])

    def scores(self, users: Rows, weights: Mapping[str, float]) -> Matrix:
        """Sum the paths by weight: (len(users), n_items)."""
        total = np.zeros((len(users), len(self.popularity)), np.float32)
        for name, weight in weights.items():
            if weight:
                total += np.float32(weight) * self.path(name, users)
        return total


def fit_walk(
    train: Interactions, features: Mapping[str, Matrix], config: WalkConfig | None = None
) -> ItemWalk:
    """Count co-visits and find neighbours.

    Parameters
    ----------
    features
        Of each modality (n_items, d) float32; a row of NaN is an item without it.
    """
    config = config or WalkConfig()
    x = _rows(train)
    size = np.maximum(np.asarray(x.sum(1)).ravel(), 1)
    met = _scaled(x, 1 / size)
    once = covisits(x, size, config)
    chain = _scaled(once, 1 / np.maximum(np.asarray(once.sum(1)).ravel(), 1e-9))
    steps: dict[str, tuple[sparse.csr_matrix, ...]] = {"met": (once,), "met+met": (chain, chain)}
    for name, matrix in features.items():
        like = _csr(matrix, config.neighbours)
        steps |= {name: (like,), f"met+{name}": (chain, like), f"{name}+met": (like, chain)}
    popularity = np.asarray(met.sum(0)).ravel()
    mean = popularity / train.n_users
    scale = {}
    for name, path in steps.items():
        mass = mean
        for step in path:
            mass = step.T @ mass
        scale[name] = max(float(mass.sum()), 1e-9)
    return ItemWalk(met, steps, (popularity / max(popularity.sum(), 1e-9)).astype(np.float32), scale)


def covisits(x: sparse.csr_matrix, size: NDArray[np.floating], config: WalkConfig) -> sparse.csr_matrix:
    """S of the module, without its diagonal, rows cut to the strongest `kept` and ties with the last."""
    discounted = _scaled(x, size**-config.user_discount)
    mass = np.maximum(np.asarray(discounted.sum(0)).ravel(), 1e-9)
    common = sparse.csr_matrix(x.T @ discounted)
    common.setdiag(0)
    common.eliminate_zeros()
    for begin, end in zip(common.indptr[:-1], common.indptr[1:], strict=True):
        if end - begin > config.kept:
            row = common.data[begin:end]
            row[row < np.partition(row, -config.kept)[-config.kept]] = 0
    common.eliminate_zeros()
    return _scaled(common, mass**-config.item_discount)


def tune_walk(
    walk: ItemWalk, held: Interactions, train: Interactions, *, k: int = 20, without: Collection[str] = ()
) -> tuple[dict[str, float], float]:
    """Choose weights by recall + NDCG at k on held-out pairs, one path after another, twice.

    Parameters
    ----------
    without
        Modalities to leave out.

    Returns
    -------
    weights, reached
    """
    names = [name for name in walk.names if not set(name.split("+")) & set(without)]
    users = held.users
    seen = _rows(train)[users].toarray() > 0
    paths = {name: np.where(seen, 0, walk.path(name, users)) for name in names}
    weights = dict.fromkeys(names, 0.0) | {"met": 1.0}
    total = np.where(seen, -np.inf, paths["met"])  # stays so, since what is added there is 0
    best = _reached(total, held.items, k)
    tried = np.empty_like(total)
    for _ in range(2):
        for name in names[1:]:
            total -= np.float32(weights[name]) * paths[name]
            for value in GRID:
                if value != weights[name]:
                    np.multiply(paths[name], np.float32(value), out=tried)
                    tried += total
                    got = _reached(tried, held.items, k)
                    if got > best:
                        best, weights[name] = got, value
            total += np.float32(weights[name]) * paths[name]
    return weights, best


def _reached(scores: Matrix, items: Rows, k: int) -> float:
    own = scores[np.arange(len(items)), items][:, None]
    before = (scores > own).sum(1)
    rank = before + ((scores == own).sum(1) - 1) / 2  # items that no path reaches tie at 0
    return float(np.where(rank < k, 1 + 1 / np.log2(rank + 2), 0).mean())


def _rows(data: Interactions) -> sparse.csr_matrix:
    return sparse.csr_matrix(
        (np.ones(len(data.users), np.float32), (data.users, data.items)), (data.n_users, data.n_items)
    )


def _scaled(matrix: sparse.csr_matrix, weights: NDArray[np.floating]) -> sparse.csr_matrix:
    return sparse.csr_matrix(sparse.diags(weights.astype(np.float32)) @ matrix)


def _csr(features: Matrix, k: int) -> sparse.csr_matrix:
    graph = neighbour_graph(features, k)
    rows, columns = graph.indices().numpy()
    return sparse.csr_matrix((graph.values().numpy(), (rows, columns)), tuple(graph.shape))
