"""Top-N from interactions and what items look and sound like: a graph network over users and fused items.

An item's parts are its id and, for each modality, its projected features plus the mean id vector of the items
most like it (the frozen item graphs of Zhou & Shen 2023, "A tale of two graphs: freezing and denoising graph
structures for multimodal recommendation", after LATTICE, Zhang et al. 2021). `Fusion` makes one vector of
them, LightGCN (He et al. 2020) propagates it over the interactions, and cosine / temperature + an item's bias
is the score. Departures from these models, each for histories of two or three items:

- a user has no vector of its own but those of the items met, so nothing is learned by heart about one user;
- the interactions to predict are taken out of the graph that predicts them, anew in each epoch;
- what a user with many interactions tells each of the items is discounted by a power of their number.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import LGConv

from model_core.network.fusion import Fusion, alignment_loss, modality_dropout
from tests.benchmarks.rivals.interactions import (
    Interactions,
    Matrix,
    Rows,
    choose_targets,
    interaction_graph,
    neighbour_graph,
)
from tests.benchmarks.rivals.sampled_softmax import sampled_softmax_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class MultimodalConfig:
    """How the model is made and trained; `lightgcn` gives LightGCN's choices."""

    fusion: str = "gated"
    dim: int = 64
    layers: int = 3
    neighbours: int = 10
    """Items most like an item, by each modality."""
    user_ids: bool = False
    """Whether users have vectors of their own."""
    leave_out: bool = True
    """Whether the interactions to predict are taken out of the graph."""
    user_discount: float = 0.5
    """Power of a user's number of interactions that divides what the user tells items, beyond LightGCN's."""
    temperature: float = 0.15
    alignment: float = 0.1
    """Weight of the loss that draws modalities to behaviour; it acts when there are modalities."""
    part_dropout: float = 0.2
    targets: int = 3
    """Most interactions of a user to predict in an epoch; at most half of a user's."""
    batch: int = 1024
    negatives: int = 512
    learning_rate: float = 0.01
    decay: float = 1e-4
    """Weight of the mean squared length of the id vectors in a batch."""
    epochs: int = 40
    patience: int = 6
    """Looks at the validation part, one in two epochs, without a better recall before training ends."""
    seed: int = 0

    @classmethod
    def lightgcn(cls, *, seed: int = 0, epochs: int = 40) -> "MultimodalConfig":
        """LightGCN with a softmax loss: user vectors, and a graph that holds what is to be predicted."""
        return cls(
            fusion="sum", user_ids=True, leave_out=False, user_discount=0.0, part_dropout=0.0,
            seed=seed, epochs=epochs,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MultimodalRecommender:
    """What training leaves: users (n_users, dim), items (n_items, dim), bias (n_items,), float32.

    curve : recall on the validation part at each look
    """

    users: Matrix
    items: Matrix
    bias: Matrix
    curve: tuple[float, ...]

    def scores(self, users: Rows) -> Matrix:
        """Score all items: (len(users), n_items)."""
        scores: Matrix = self.users[users] @ self.items.T + self.bias
        return scores


class MultimodalGraph(nn.Module):
    """Fused items propagated over the interactions; see the module."""

    present: Tensor
    """Which parts each item has: (n_items, 1 + modalities) bool."""

    def __init__(self, data: Interactions, features: Mapping[str, Matrix], config: MultimodalConfig) -> None:
        super().__init__()
        self.config = config
        self.n_users = data.n_users
        self.names = tuple(features)
        self.user_ids = nn.Embedding(data.n_users, config.dim) if config.user_ids else None
        self.ids = nn.Embedding(data.n_items, config.dim)
        for table in (self.user_ids, self.ids):
            if table is not None:
                nn.init.normal_(table.weight, std=0.1)
        self.bias = nn.Parameter(torch.zeros(data.n_items))
        self.fusion = Fusion(config.fusion, config.dim, ("id", *self.names))
        self.project = nn.ModuleDict()
        # An item nobody met has an id that says nothing: as a masked part it cannot mislead.
        present = [torch.from_numpy(np.bincount(data.items, minlength=data.n_items) > 0)]
        for name, matrix in features.items():
            present.append(torch.from_numpy(~np.isnan(matrix).any(1)))
            known = matrix[present[-1].numpy()]
            standard = (matrix - known.mean(0)) / (known.std(0) + 1e-6)
            self.register_buffer(f"{name}_features", torch.from_numpy(np.nan_to_num(standard)))
            self.register_buffer(f"{name}_graph", neighbour_graph(matrix, config.neighbours))
            linear = nn.Linear(matrix.shape[1], config.dim)
            nn.init.normal_(linear.weight, std=0.1 * matrix.shape[1] ** -0.5)
            self.project[name] = linear
        self.register_buffer("present", torch.stack(present, 1))
        self.conv = LGConv(normalize=False)

    def parts(self) -> Tensor:
        """Parts of all items, id first: (n_items, 1 + modalities, dim)."""
        ids = self.ids.weight * self.present[:, :1]
        near = [torch.sparse.mm(self.get_buffer(f"{name}_graph"), ids) for name in self.names]
        said = [self.project[name](self.get_buffer(f"{name}_features")) for name in self.names]
        return torch.stack([ids, *(a + b for a, b in zip(near, said, strict=True))], 1)

    def forward(self, parts: Tensor, mask: Tensor, graph: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors of users (n_users, dim) and items (n_items, dim).

        Parameters
        ----------
        parts : (n_items, M, dim), mask : (n_items, M) bool
        graph : sparse (n_users + n_items, n_users + n_items), from `interaction_graph`
        """
        items = self.fusion(parts, mask)
        users = items.new_zeros(self.n_users, items.shape[1])
        state = torch.cat((users if self.user_ids is None else self.user_ids.weight, items))
        total = state
        for _ in range(self.config.layers):
            state = self.conv(state, graph)
            total = total + state
        vectors = functional.normalize(total, dim=1)
        return vectors[: self.n_users], vectors[self.n_users :]


def fit_multimodal(
    train: Interactions,
    validation: Interactions,
    features: Mapping[str, Matrix],
    config: MultimodalConfig,
    *,
    k: int = 20,
    device: str | torch.device = "cpu",
) -> MultimodalRecommender:
    """Train, look at recall@k on the validation part, and keep the best.

    Parameters
    ----------
    features
        Of each modality (n_items, d) float32; a row of NaN is an item without it.
    """
    rng = np.random.default_rng(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = MultimodalGraph(train, features, config).to(device)
    draw = torch.Generator(device=device).manual_seed(config.seed)
    optimiser = torch.optim.Adam(model.parameters(), config.learning_rate)
    whole = interaction_graph(train, config.user_discount).to(device)
    seen = _seen(train, validation.users)
    curve: list[float] = []
    best = copy.deepcopy(model.state_dict())
    for epoch in range(config.epochs):
        _train_epoch(model, train, whole, optimiser, rng, draw)
        if epoch % 2 and epoch + 1 < config.epochs:
            continue
        curve.append(_recall(_freeze(model, whole, curve), validation, seen, k))
        if curve[-1] == max(curve) and curve.count(curve[-1]) == 1:
            best = copy.deepcopy(model.state_dict())
        elif len(curve) - 1 - int(np.argmax(curve)) >= config.patience:
            break
    model.load_state_dict(best)
    return _freeze(model, whole, curve)


def _train_epoch(
    model: MultimodalGraph,
    train: Interactions,
    whole: Tensor,
    optimiser: torch.optim.Optimizer,
    rng: np.random.Generator,
    draw: torch.Generator,
) -> None:
    config = model.config
    target = choose_targets(train, config.targets, rng)
    graph = whole
    if config.leave_out:
        rest = Interactions(train.users[~target], train.items[~target], train.n_users, train.n_items)
        graph = interaction_graph(rest, config.user_discount).to(whole.device)
    pairs = rng.permutation(np.flatnonzero(target))
    for batch in np.array_split(pairs, max(1, round(len(pairs) / config.batch))):
        loss = _loss(model, train.users[batch], train.items[batch], graph, rng, draw)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _loss(
    model: MultimodalGraph,
    user_rows: Rows,
    item_rows: Rows,
    graph: Tensor,
    rng: np.random.Generator,
    draw: torch.Generator,
) -> Tensor:
    config, n_items = model.config, len(model.bias)
    users, items = (torch.from_numpy(rows).to(graph.device) for rows in (user_rows, item_rows))
    negatives = torch.from_numpy(rng.integers(n_items, size=config.negatives)).to(graph.device)
    parts = model.parts()
    mask = modality_dropout(model.present, config.part_dropout, draw)
    user_vectors, item_vectors = model(parts, mask, graph)
    asked = user_vectors[users] / config.temperature
    loss = sampled_softmax_loss(
        (asked * item_vectors[items]).sum(1) + model.bias[items],
        asked @ item_vectors[negatives].T + model.bias[negatives],
        items,
        negatives,
        torch.full((n_items,), -float(np.log(n_items)), device=graph.device),
    )
    if model.names and config.alignment:
        met = torch.from_numpy(rng.permutation(np.unique(item_rows))[: config.negatives]).to(graph.device)
        said = model.fusion.aligned(parts, model.present)[met][:, 1:]
        loss = loss + config.alignment * alignment_loss(said, model.present[met][:, 1:], item_vectors[met])
    length = model.ids.weight[items].square().sum(1).mean()
    if model.user_ids is not None:
        length = length + model.user_ids.weight[users].square().sum(1).mean()
    return loss + config.decay * length


def _freeze(model: MultimodalGraph, graph: Tensor, curve: list[float]) -> MultimodalRecommender:
    with torch.inference_mode():
        users, items = model(model.parts(), model.present, graph)
        return MultimodalRecommender(
            (users / model.config.temperature).cpu().numpy(),
            items.cpu().numpy(),
            model.bias.cpu().numpy().copy(),
            tuple(curve),
        )


def _seen(train: Interactions, users: Rows) -> tuple[Rows, Rows]:
    """Rows of `users` and the items that each of these met."""
    order = np.argsort(train.users, kind="stable")
    size = np.bincount(train.users, minlength=train.n_users)
    begin = np.cumsum(size) - size
    rows = np.repeat(np.arange(len(users)), size[users])
    place = np.arange(len(rows)) - np.repeat(np.cumsum(size[users]) - size[users], size[users])
    return rows, train.items[order[begin[users][rows] + place]]


def _recall(model: MultimodalRecommender, held: Interactions, seen: tuple[Rows, Rows], k: int) -> float:
    """Share of held-out pairs that are among the user's k best unseen: each pair counts alike."""
    scores = model.scores(held.users)
    own = scores[np.arange(len(held.users)), held.items]
    scores[seen] = -np.inf
    return float(((scores > own[:, None]).sum(1) < k).mean())
