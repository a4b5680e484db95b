"""Matrix factorisation and LightGCN, both by pairs of a liked item and another one (BPR).

The models that papers on poisoning attack first: Rendle et al. 2009, "BPR: Bayesian personalized ranking from
implicit feedback", and He et al. 2020, "LightGCN", which is the same loss on vectors that are means over the
layers of the graph of users and items.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model_core.evaluation.topn import ranking_metrics, top_items
from tests.benchmarks.rivals.interactions import Interactions, interaction_graph

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseConfig:
    """How the vectors are trained; `layers` is 0 for matrix factorisation."""

    layers: int = 0
    dim: int = 64
    batch: int = 2048
    learning_rate: float = 0.005
    l2: float = 1e-4
    epochs: int = 120
    every: int = 5
    patience: int = 4
    """Looks at the validation part in a row without a better one that end the training."""
    k: int = 50
    """Length of the lists whose NDCG says which epoch is kept."""
    seed: int = 0


def fit_pairwise(train: Bools, validation: Bools, config: PairwiseConfig) -> NDArray[np.float32]:
    """Train and score all items for all users: (n_users, n_items), of the epoch best on validation.

    Raises
    ------
    ValueError
        If a part is empty.
    """
    for name, part in (("train", train), ("validation", validation)):
        if not part.any():
            raise ValueError(f"{name} must hold at least one interaction, got none")
    n_users, n_items = train.shape
    rng = np.random.default_rng(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    table = nn.Parameter(torch.empty(n_users + n_items, config.dim))
    nn.init.xavier_uniform_(table, generator=generator)
    users, items = (rows.astype(np.int64) for rows in np.nonzero(train))
    graph = interaction_graph(Interactions(users, items, n_users, n_items), 0.0)
    optimizer = torch.optim.Adam([table], lr=config.learning_rate)
    best, reached, stale = np.zeros(train.shape, np.float32), -1.0, 0
    for epoch in range(1, config.epochs + 1):
        order = rng.permutation(len(users))
        for begin in range(0, len(order), config.batch):
            at = order[begin : begin + config.batch]
            some, liked = users[at], items[at]
            other = _unmet(train, some, rng)
            vectors = _vectors(table, graph, config.layers)
            own = [vectors[torch.from_numpy(rows)] for rows in (some, n_users + liked, n_users + other)]
            apart = (own[0] * (own[1] - own[2])).sum(1)
            given = [table[torch.from_numpy(rows)] for rows in (some, n_users + liked, n_users + other)]
            size = sum(rows.square().sum() for rows in given) / len(at)
            loss = functional.softplus(-apart).mean() + config.l2 * size
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % config.every and epoch < config.epochs:
            continue
        with torch.no_grad():
            vectors = _vectors(table, graph, config.layers)
            scores = (vectors[:n_users] @ vectors[n_users:].T).numpy()
        listed = top_items(scores, train, min(config.k, n_items))
        ndcg = float(np.nanmean(ranking_metrics(listed, validation)["ndcg"]))
        if ndcg > reached:
            best, reached, stale = scores, ndcg, 0
        else:
            stale += 1
            if stale >= config.patience:
                break
    return best


def _vectors(table: Tensor, graph: Tensor, layers: int) -> Tensor:
    """Mean over the layers of the graph, the table itself among them."""
    read, total = table, table
    for _ in range(layers):
        read = graph @ read
        total = total + read
    return total / (layers + 1)


def _unmet(train: Bools, users: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw an item for each user that they have not met."""
    drawn = rng.integers(0, train.shape[1], len(users))
    while (met := train[users, drawn]).any():
        drawn[met] = rng.integers(0, train.shape[1], int(met.sum()))
    return drawn
