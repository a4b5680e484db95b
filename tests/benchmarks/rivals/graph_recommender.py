"""User and item vectors trained through the joined graph, by interactions and by facts together.

The loss of interactions is a softmax over a user's item and items drawn at random, on cosines, which beats
pairwise losses for graph models (Wu et al. 2024, "On the effectiveness of sampled softmax loss for item
recommendation"). The loss of facts is the same softmax over tails, given head and relation, scored as in
TransE on unit vectors: what a graph says shapes the vectors its layers pass on. Both see the whole training
part in each step: the draws are shared, so a step costs users x draws, not interactions x draws.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model_core.evaluation.topn import ranking_metrics
from model_core.training.fit import Report
from tests.benchmarks.rivals.graph_encoder import RULES, Edges, GraphEncoder, JoinedGraph, sample_neighbours

OTHER_TAILS = 256
"""Drawn tails that each fact's own is told apart from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConfig:
    """How the vectors are trained."""

    rule: str = "linear"
    """What a layer computes: linear or attention."""
    dim: int = 64
    layers: int = 2
    neighbours: int = 512
    """At most, of a node by each relation and direction."""
    temperature: float = 0.15
    """Divides cosines in both losses."""
    negatives: int = 1024
    """Items drawn a step; all where there are fewer."""
    knowledge: float = 0.1
    """Weight of the loss of facts beside the interactions' 1."""
    facts: int = 2048
    """Facts drawn a step."""
    learning_rate: float = 0.02
    epochs: int = 300
    """Steps at most; the best by validation is kept."""
    every: int = 10
    """Steps between validations."""
    patience: int = 3
    """Validations in a row without a better one that end the training."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {list(RULES)}, got {self.rule!r}")
        for name in ("dim", "layers", "neighbours", "negatives", "facts", "epochs", "every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.knowledge < 0:
            raise ValueError(f"knowledge must be at least 0, got {self.knowledge}")


@dataclass(frozen=True, slots=True)
class TrainedGraph:
    """Unit vectors, (n_users, dim) and (n_items, dim) float32, and the validation curve.

    curve : (step, NDCG@10) by validation
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    curve: list[tuple[int, float]]

    def scores(self) -> NDArray[np.float32]:
        """Score all items for all users by the cosine: (n_users, n_items)."""
        scores: NDArray[np.float32] = self.users @ self.items.T
        return scores


class GraphModel(nn.Module):
    """What is trained: the vectors nodes start with, the encoder, and the relations of facts."""

    def __init__(self, graph: JoinedGraph, config: GraphConfig) -> None:
        super().__init__()
        self.nodes = nn.Embedding(graph.n_nodes, config.dim)
        nn.init.normal_(self.nodes.weight, std=0.1)
        self.encoder = GraphEncoder(config.dim, graph.n_relations, layers=config.layers, rule=config.rule)
        self.relations = nn.Embedding(graph.n_relations, config.dim)
        nn.init.normal_(self.relations.weight, std=0.1)

    def forward(self, edges: Edges) -> Tensor:
        """Encode all nodes: (n, dim) unit vectors."""
        return functional.normalize(self.encoder.sparse(self.nodes.weight, edges), dim=1)


Build = Callable[[JoinedGraph, GraphConfig], nn.Module]
"""Makes a module that gives all nodes' unit vectors by a graph's edges."""


def without_facts(graph: JoinedGraph) -> JoinedGraph:
    """Keep the interactions alone: the graph of LightGCN."""
    kept = graph.relations < 2
    edges = (graph.targets[kept], graph.sources[kept], graph.relations[kept])
    n_nodes = graph.n_users + graph.n_items
    return JoinedGraph(graph.n_users, graph.n_items, n_nodes, 2, *edges)


def train_graph(
    graph: JoinedGraph,
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
    config: GraphConfig | None = None,
    *,
    build: Build = GraphModel,
    device: str = "auto",
    report: Report = lambda stage, done: None,
) -> TrainedGraph:
    """Train on the graph's interactions and facts; keep the step of the best NDCG@10 on validation.

    The same seed gives the same vectors where the platform's arithmetic allows.

    Parameters
    ----------
    graph
        Its interactions must be those of `train`.
    train, validation : (n_users, n_items) bool
    build
        Makes what is trained; one that is to learn of facts has the tables `nodes` and `relations`.

    Raises
    ------
    ValueError
        If the parts have another shape than the graph, nothing is there to train or validate on, or the
        loss is not finite.
    """
    config = config or GraphConfig()
    for name, part in (("train", train), ("validation", validation)):
        if part.shape != (graph.n_users, graph.n_items):
            raise ValueError(f"{name} must have shape {(graph.n_users, graph.n_items)}, got {part.shape}")
        if not part.any():
            raise ValueError(f"{name} must hold at least one interaction, got none")
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    trainer = _Trainer(graph, train, config, where, build)
    best, reached, stale = trainer.vectors(), -math.inf, 0
    curve: list[tuple[int, float]] = []
    for step in range(1, config.epochs + 1):
        trainer.step()
        report("graph", step / config.epochs)
        if step % config.every and step < config.epochs:
            continue
        users, items = trainer.vectors()
        ndcg = validation_ndcg(users @ items.T, train, validation)
        curve.append((step, ndcg))
        if ndcg > reached:
            best, reached, stale = (users, items), ndcg, 0
        else:
            stale += 1
            if stale >= config.patience:
                break
    report("graph", 1.0)
    users, items = best
    return TrainedGraph(users.cpu().numpy(), items.cpu().numpy(), curve)


def validation_ndcg(
    scores: Tensor, train: NDArray[np.bool_], validation: NDArray[np.bool_], k: int = 10
) -> float:
    """Mean NDCG@k of the items not met in training: (n_users, n_items) scores against validation."""
    open_items = scores.masked_fill(torch.as_tensor(train).to(scores.device), -torch.inf)
    top = open_items.topk(min(k, scores.shape[1]), dim=1).indices.cpu().numpy()
    return float(np.nanmean(ranking_metrics(top, validation)["ndcg"]))


class _Trainer:
    def __init__(
        self,
        graph: JoinedGraph,
        train: NDArray[np.bool_],
        config: GraphConfig,
        device: torch.device,
        build: Build,
    ) -> None:
        self._graph, self._config, self._device = graph, config, device
        self._rng = np.random.default_rng(config.seed)
        self._edges = sample_neighbours(graph, config.neighbours, self._rng).edges(device)
        self._met = torch.as_tensor(train).to(device)
        self._users, self._items = self._met.nonzero(as_tuple=True)
        forward = (graph.relations >= 2) & (graph.relations % 2 == 0)  # each fact once, from its head
        columns = (graph.targets[forward], graph.relations[forward], graph.sources[forward])
        self._facts = np.stack(columns, axis=1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._model = build(graph, config).to(device)
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=config.learning_rate)

    @torch.no_grad()
    def vectors(self) -> tuple[Tensor, Tensor]:
        """Present unit vectors of users and items."""
        return self._split(self._model(self._edges))

    def step(self) -> None:
        """Go over all interactions once, and over some facts."""
        loss = self._interactions(*self._split(self._model(self._edges)))
        if self._config.knowledge and len(self._facts):
            loss = loss + self._config.knowledge * self._knowledge()
        if not bool(loss.isfinite()):
            raise ValueError(f"the loss must be finite, got {loss.item()}; lower the learning rate")
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _split(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        n_users, n_items = self._graph.n_users, self._graph.n_items
        return nodes[:n_users], nodes[n_users : n_users + n_items]

    def _interactions(self, users: Tensor, items: Tensor) -> Tensor:
        n_items = self._graph.n_items
        size = min(self._config.negatives, n_items)
        drawn = torch.as_tensor(self._rng.choice(n_items, size, replace=False)).to(self._device)
        against = users @ items[drawn].T / self._config.temperature  # (n_users, negatives)
        against = against.masked_fill(self._met[:, drawn], -torch.inf).logsumexp(1)[self._users]
        own = (users[self._users] * items[self._items]).sum(1) / self._config.temperature
        # Each drawn item stands for n_items / negatives items.
        return functional.softplus(against + math.log(n_items / size) - own).mean()

    def _knowledge(self) -> Tensor:
        config = self._config
        nodes, relations = (self._model.get_submodule(name) for name in ("nodes", "relations"))
        rows = self._rng.integers(len(self._facts), size=min(config.facts, len(self._facts)))
        head, relation, tail = torch.as_tensor(self._facts[rows].T).to(self._device)
        query = functional.normalize(nodes(head) + relations(relation), dim=1)
        tails = functional.normalize(nodes(tail), dim=1)
        # Tails of the draw itself are what a fact's own is told apart from; an equal one is no mistake.
        logits = query @ tails[:OTHER_TAILS].T / config.temperature
        logits = logits.masked_fill(tail.unsqueeze(1) == tail[:OTHER_TAILS], -torch.inf)
        own = (query * tails).sum(1, keepdim=True) / config.temperature
        return -functional.log_softmax(torch.cat((own, logits), 1), 1)[:, 0].mean()
