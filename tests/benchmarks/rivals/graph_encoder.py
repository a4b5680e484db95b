"""A relation-aware graph neural network over users, items and entities, sparse to train and padded to serve.

Interactions and facts form one graph. Each layer sends a node what its neighbours are, by one of two rules:

- linear: sums weighted by degree and by one learned number per relation and direction (Li et al. 2025,
  "LightKG"; with interactions alone and numbers of 1 it is LightGCN, He et al. 2020);
- attention: a mean weighted by how the neighbour and the relation answer the node's query (as in the served
  `ItemEncoder`; Velickovic et al. 2018, with relations as in Nathani et al. 2019).

PyG computes it over edges; `GraphEncoder.forward` computes the same over padded neighbours, which exports to
ONNX with any number of nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

RULES = ("linear", "attention")

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class JoinedGraph:
    """Directed edges by which nodes hear of each other.

    User u is node u, item i is node n_users + i, entities follow.

    targets, sources, relations : (E,) int64; the relation tells the direction too
    """

    n_users: int
    n_items: int
    n_nodes: int
    n_relations: int
    targets: Rows
    sources: Rows
    relations: Rows

    @classmethod
    def join(
        cls,
        users: NDArray[np.integer],
        items: NDArray[np.integer],
        facts: NDArray[np.integer],
        *,
        n_users: int,
        n_items: int,
        n_nodes: int,
    ) -> "JoinedGraph":
        """Join interactions and facts, each in both directions.

        Relations 0 and 1 lead from items to users and back; 2 + 2r and 3 + 2r from tails to heads and back.

        Parameters
        ----------
        users, items : (n,) rows of the interactions
        facts : (m, 3) head node, relation, tail node
            Triples of items, users' attributes (or friends) and items' tags alike: users, items and entities
            are nodes of one numbering.

        Raises
        ------
        ValueError
            If a row or node is out of range.
        """
        for name, rows, limit in (
            ("users", users, n_users),
            ("items", items, n_items),
            ("facts' nodes", facts[:, [0, 2]], n_nodes),
        ):
            if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < limit:
                raise ValueError(f"{name} must be in [0, {limit}), got {rows.min()} to {rows.max()}")
        head, relation, tail = facts.T.astype(np.int64)
        user, item = users.astype(np.int64), items.astype(np.int64) + n_users
        return cls(
            n_users,
            n_items,
            n_nodes,
            2 + 2 * (int(relation.max(initial=-1)) + 1),
            np.concatenate((user, item, head, tail)),
            np.concatenate((item, user, tail, head)),
            np.concatenate((np.zeros_like(user), np.ones_like(user), 2 + 2 * relation, 3 + 2 * relation)),
        )


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Sampled neighbours of each node, padded to the longest list.

    sources, relations : (n, W) int64, 0 where there is none
    weights : (n, W) float32, 1 / sqrt(in-degree of the node * out-degree of the neighbour) in the sample,
        0 where there is none
    """

    sources: Rows
    relations: Rows
    weights: NDArray[np.float32]

    def tensors(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """Move the padded form to the device, in the order `GraphEncoder.forward` takes it."""
        arrays = (self.sources, self.relations, self.weights)
        sources, relations, weights = (torch.as_tensor(array).to(device) for array in arrays)
        return sources, relations, weights

    def edges(self, device: torch.device | str = "cpu") -> "Edges":
        """List the same neighbours as edges."""
        target, column = np.nonzero(self.weights)
        arrays = (
            np.stack((self.sources[target, column], target)),
            self.relations[target, column],
            self.weights[target, column],
        )
        return Edges(*(torch.as_tensor(array).to(device) for array in arrays))


@dataclass(frozen=True, slots=True)
class Edges:
    """Index : (2, E) int64, sources above targets as in PyG; relations : (E,) int64; weights : (E,)."""

    index: Tensor
    relations: Tensor
    weights: Tensor


def sample_neighbours(graph: JoinedGraph, k: int, rng: np.random.Generator) -> Neighbours:
    """Draw at most k neighbours of each node by each relation and direction, without replacement.

    Raises
    ------
    ValueError
        If k is less than 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    group = graph.targets * graph.n_relations + graph.relations
    order = rng.permutation(len(group))
    order = order[np.argsort(group[order], kind="stable")]
    _, first, sizes = np.unique(group[order], return_index=True, return_counts=True)
    kept = order[np.arange(len(order)) - np.repeat(first, sizes) < k]  # by target still
    target, source = graph.targets[kept], graph.sources[kept]
    degree = np.bincount(target, minlength=graph.n_nodes)
    heard = np.bincount(source, minlength=graph.n_nodes)
    column = np.arange(len(kept)) - (np.cumsum(degree) - degree)[target]
    shape = (graph.n_nodes, max(1, int(degree.max(initial=0))))
    sources, relations = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    weights = np.zeros(shape, np.float32)
    sources[target, column] = source
    relations[target, column] = graph.relations[kept]
    weights[target, column] = 1.0 / np.sqrt(degree[target] * heard[source])
    return Neighbours(sources, relations, weights)


class LinearConv(MessagePassing):
    """Sum of the neighbours, each times its weight and its relation's learned number."""

    def __init__(self, dim: int, n_relations: int) -> None:
        super().__init__(aggr="sum")
        self.scales = nn.Parameter(torch.ones(n_relations))

    def forward(self, vectors: Tensor, edges: Edges) -> Tensor:
        """Compute over edges: (n, dim)."""
        weights = edges.weights * self.scales[edges.relations]
        out: Tensor = self.propagate(edges.index, x=vectors, weights=weights)
        return out

    def message(self, x_j: Tensor, weights: Tensor) -> Tensor:
        """Weigh each edge's source: (E, dim)."""
        return weights.unsqueeze(-1) * x_j

    def padded(self, vectors: Tensor, sources: Tensor, relations: Tensor, weights: Tensor) -> Tensor:
        """Compute over padded neighbours: (n, dim)."""
        weights = weights * self.scales[relations]  # (n, W)
        return (vectors[sources] * weights.unsqueeze(-1)).sum(1)


class AttentionConv(MessagePassing):
    """Mean of neighbour plus relation, weighted by a softmax over each node's neighbours."""

    def __init__(self, dim: int, n_relations: int) -> None:
        super().__init__(aggr="sum", node_dim=0)
        self.relations = nn.Embedding(n_relations, dim)
        nn.init.normal_(self.relations.weight, std=0.1 * dim**-0.5)
        self.query = nn.Linear(dim, dim)
        self.scale = dim**-0.5

    def forward(self, vectors: Tensor, edges: Edges) -> Tensor:
        """Compute over edges: (n, dim)."""
        out: Tensor = self.propagate(
            edges.index, x=vectors, query=self.query(vectors), relation=self.relations(edges.relations)
        )
        return out

    def message(self, x_j: Tensor, query_i: Tensor, relation: Tensor, index: Tensor) -> Tensor:
        """Weigh each edge's source and relation: (E, dim)."""
        told = x_j + relation
        share = softmax((told * query_i).sum(-1) * self.scale, index)
        weighed: Tensor = told * share.unsqueeze(-1)
        return weighed

    def padded(self, vectors: Tensor, sources: Tensor, relations: Tensor, weights: Tensor) -> Tensor:
        """Compute over padded neighbours: (n, dim)."""
        told = vectors[sources] + self.relations(relations)  # (n, W, dim)
        logits = (told * self.query(vectors).unsqueeze(1)).sum(-1) * self.scale  # (n, W)
        known = weights > 0
        share = torch.softmax(logits.masked_fill(~known, -1e9), -1) * known
        out: Tensor = (told * share.unsqueeze(-1)).sum(1)
        return out


class GraphEncoder(nn.Module):
    """Layers over the joined graph; a node's vector is the mean of what it starts with and what each says.

    A node without neighbours keeps its own vector, divided alike.

    Parameters
    ----------
    dim
        Numbers per node.
    n_relations
        Of the joined graph, directions included.
    layers
        How far a node hears.
    rule
        "linear" or "attention".
    """

    def __init__(self, dim: int, n_relations: int, *, layers: int = 2, rule: str = "linear") -> None:
        super().__init__()
        if rule not in RULES:
            raise ValueError(f"rule must be one of {list(RULES)}, got {rule!r}")
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        conv = LinearConv if rule == "linear" else AttentionConv
        self.convs: Sequence[LinearConv | AttentionConv] = nn.ModuleList(  # type: ignore[assignment]
            conv(dim, n_relations) for _ in range(layers)
        )

    def forward(self, vectors: Tensor, sources: Tensor, relations: Tensor, weights: Tensor) -> Tensor:
        """Encode all nodes from padded neighbours.

        Parameters
        ----------
        vectors : (n, dim) float32, what nodes start with
        sources, relations, weights : (n, W), see `Neighbours`

        Returns
        -------
        vectors : (n, dim) float32
        """
        outputs = [vectors]
        for conv in self.convs:
            outputs.append(conv.padded(outputs[-1], sources, relations, weights))
        return torch.stack(outputs).mean(0)

    def sparse(self, vectors: Tensor, edges: Edges) -> Tensor:
        """Encode all nodes, (n, dim), from edges, with PyG; equals `forward` on the same neighbours."""
        outputs = [vectors]
        for conv in self.convs:
            outputs.append(conv(outputs[-1], edges))
        return torch.stack(outputs).mean(0)
