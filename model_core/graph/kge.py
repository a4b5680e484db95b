"""Knowledge-graph embedding: vectors of nodes and relations from the triples they occur in."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model_core.graph.knowledge_graph import SIDES, KnowledgeGraph, Side, Split, rank_triples
from model_core.graph.node_embeddings import FAMILIES, NodeEmbeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class KgeConfig:
    """Settings of a graph embedding."""

    model: str = "rotate"
    """transe, distmult, complex or rotate."""
    dim: int = 64
    """Numbers per node and per relation; the complex models have half as many channels."""
    epochs: int = 100
    """At most; the best by validation is kept."""
    every: int = 5
    """Epochs between validations."""
    patience: int = 2
    """Validations in a row without a better MRR that end the training."""
    batch_size: int = 512
    negatives: int = 256
    """Nodes drawn per step, which both ends of its triples are told apart from."""
    learning_rate: float = 5e-3
    penalty: float = 0.2
    """Weight of the N3 penalty (Lacroix et al. 2018) of distmult and complex; the others need none."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in FAMILIES:
            raise ValueError(f"model must be one of {sorted(FAMILIES)}, got {self.model!r}")
        if self.dim < 2 or self.dim % 2:
            raise ValueError(f"dim must be even and at least 2, got {self.dim}")
        for name in ("epochs", "every", "patience", "batch_size", "negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Validation:
    """Validation after `epoch`: that epoch's mean loss, and the filtered MRR of heads and tails."""

    epoch: int
    loss: float
    mrr: float


@dataclass(frozen=True, slots=True)
class TrainedEmbeddings:
    """The embeddings, and the curve that led to them."""

    embeddings: NodeEmbeddings
    curve: list[Validation]


def train_embeddings(
    graph: KnowledgeGraph,
    split: Split,
    config: KgeConfig | None = None,
    *,
    device: str = "auto",
    report: Callable[[str, float], None] = lambda stage, done: None,
) -> TrainedEmbeddings:
    """Embed nodes and relations so that the triples of training score above others.

    The epoch of the best validation MRR counts; with nothing to validate on, the last. A node without a
    triple in training gets the mean vector of its kind. The same seed gives the same embeddings where the
    platform's arithmetic allows.

    Raises
    ------
    ValueError
        If there is nothing to train on, or the loss is not finite.
    """
    config = config or KgeConfig()
    if not len(split.train):
        raise ValueError("there must be at least one triple to train on, got none")
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    trainer = _Trainer(graph, split.train, config, where)
    curve: list[Validation] = []
    best, best_mrr, stale = trainer.tables(), -math.inf, 0
    for epoch in range(1, config.epochs + 1):
        loss = trainer.epoch()
        report("embed", epoch / config.epochs)
        if epoch % config.every and epoch < config.epochs:
            continue
        tables, mrr = trainer.tables(), math.nan
        if len(split.valid):
            ranks = rank_triples(trainer.family.scores(*tables), split.valid, graph.triples)
            mrr = float(np.mean([1.0 / ranks[side] for side in SIDES]))
        curve.append(Validation(epoch, loss, mrr))
        if mrr <= best_mrr:
            stale += 1
            if stale >= config.patience:
                break
        else:
            best, best_mrr, stale = tables, mrr, 0
    report("embed", 1.0)
    nodes, edges = (table.cpu().numpy() for table in best)
    n_items = len(graph.items)
    trained = np.zeros(graph.n_nodes, np.bool_)
    trained[split.train[:, [0, 2]]] = True
    for kind in (slice(0, n_items), slice(n_items, None)):
        if trained[kind].any():
            nodes[kind][~trained[kind]] = nodes[kind][trained[kind]].mean(0)
    named = NodeEmbeddings(config.model, graph.items, graph.entities, graph.relations, nodes, edges)
    return TrainedEmbeddings(named, curve)


class _Trainer:
    """Fits one of PyG's models with negatives that a whole step shares.

    The loss is a softmax over the true end of a triple and the nodes drawn, for heads and for tails, which
    beats each model's first loss (Ruffinelli et al. 2020, "You CAN teach an old dog new tricks!"). Drawn
    nodes that are true in training are left out; each of the rest stands for (n - 1) / negatives nodes.
    """

    def __init__(
        self, graph: KnowledgeGraph, train: NDArray[np.int64], config: KgeConfig, device: torch.device
    ) -> None:
        self.family = FAMILIES[config.model]
        self._triples, self._config, self._device = train, config, device
        self._n_nodes, self._n_relations = graph.n_nodes, len(graph.relations)
        self._known = np.sort(self._keys(train[:, 0], train[:, 1], train[:, 2]))
        self._rng = np.random.default_rng(config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = self.family.build(self._n_nodes, self._n_relations, config.dim // self.family.parts)
        self._model = model.to(device)
        self._optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)

    @torch.no_grad()
    def tables(self) -> tuple[Tensor, Tensor]:
        """Copies of the present vectors of nodes and relations."""
        nodes, edges = self.family.tables(self._model)
        return nodes.detach().clone(), edges.detach().clone()

    def epoch(self) -> float:
        """Go over the triples once; return the mean loss."""
        losses = []
        order = self._rng.permutation(len(self._triples))
        for begin in range(0, len(order), self._config.batch_size):
            loss = self._loss(self._triples[order[begin : begin + self._config.batch_size]])
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            losses.append(float(loss.detach()))
        mean = float(np.mean(losses))
        if not math.isfinite(mean):
            raise ValueError(f"the embedding loss must be finite, got {mean}; lower the learning rate")
        return mean

    def _loss(self, triples: NDArray[np.int64]) -> Tensor:
        config, family = self._config, self.family
        drawn = self._rng.integers(self._n_nodes, size=config.negatives)
        nodes, edges = family.tables(self._model)
        head, relation, tail = torch.as_tensor(triples.T).to(self._device)
        ends: dict[Side, Tensor] = {"head": nodes[head], "tail": nodes[tail]}
        edge, others = edges[relation], nodes[torch.as_tensor(drawn).to(self._device)]
        shift = math.log(max(1.0, (self._n_nodes - 1) / config.negatives))
        loss = torch.zeros((), device=self._device)
        for side in SIDES:
            query = family.query(ends["head" if side == "tail" else "tail"], edge, side)
            own = -(query - ends[side]).norm(dim=1) if family.distance else (query * ends[side]).sum(1)
            against = family.compare(query, others) / family.temperature + shift  # (b, negatives)
            against = against.masked_fill(self._true(triples, drawn, side), -torch.inf)
            logits = torch.cat((own.unsqueeze(1) / family.temperature, against), 1)
            loss = loss - functional.log_softmax(logits, 1)[:, 0].mean()
        if config.penalty and not family.distance:
            rows = (row.view(len(row), family.parts, -1) for row in (*ends.values(), edge))
            cubes = [row.norm(dim=1).pow(3).sum(1).mean() for row in rows]  # of the modulus, where complex
            loss = loss + config.penalty * torch.stack(cubes).sum()
        return loss

    def _true(self, triples: NDArray[np.int64], drawn: NDArray[np.int64], side: Side) -> Tensor:
        """Whether a drawn node makes a triple of training: (b, negatives) bool."""
        head, relation, tail = (column[:, None] for column in triples.T)
        keys = self._keys(head, relation, drawn) if side == "tail" else self._keys(drawn, relation, tail)
        at = np.minimum(np.searchsorted(self._known, keys), len(self._known) - 1)
        return torch.as_tensor(self._known[at] == keys).to(self._device)

    def _keys(
        self, head: NDArray[np.int64], relation: NDArray[np.int64], tail: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """One number per triple."""
        return (head * self._n_relations + relation) * self._n_nodes + tail
