"""Vectors of a graph's nodes and relations: how they score a triple, and where else they are of use."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch_geometric.nn.kge import ComplEx, DistMult, RotatE, TransE

from model_core.arrays import read_arrays
from model_core.data.vocabulary import Vocabulary
from model_core.graph.knowledge_graph import Scores, Side
from model_core.network.item_encoder import ItemEncoder


def _translate(node: Tensor, relation: Tensor, side: Side) -> Tensor:
    return node + relation if side == "tail" else node - relation


def _scale(node: Tensor, relation: Tensor, side: Side) -> Tensor:
    return node * relation


def _turn(node: Tensor, relation: Tensor, side: Side) -> Tensor:
    """Complex product, on the way back with the relation's conjugate; halves are [real | imaginary]."""
    (a, b), (c, d) = node.chunk(2, -1), relation.chunk(2, -1)
    d = d if side == "tail" else -d
    return torch.cat((a * c - b * d, a * d + b * c), -1)


def _joined(*tables: torch.nn.Embedding) -> Tensor:
    return torch.cat([table.weight for table in tables], 1)


@dataclass(frozen=True, slots=True)
class Family:
    """A model's score as a query, made of the known end and the relation, that is compared with nodes.

    It equals PyG's `forward` (tested), which takes one triple at a time; this ranks all nodes at once.
    """

    build: Callable[..., Any]
    """PyG's class: number of nodes, of relations, channels."""
    tables: Callable[[Any], tuple[Tensor, Tensor]]
    """Of a model, the vectors of nodes, (n, dim), and of relations, (r, dim)."""
    query: Callable[[Tensor, Tensor, Side], Tensor]
    distance: bool = False
    """Whether near nodes score high, instead of those with a large product."""
    temperature: float = 1.0
    """Divides scores in the softmax of the loss: those of distances differ by little."""
    parts: int = 1
    """Numbers per channel: 2 where it is complex."""

    def compare(self, query: Tensor, nodes: Tensor) -> Tensor:
        """Score all nodes, (n, dim), for each query, (b, dim): (b, n)."""
        return -torch.cdist(query, nodes) if self.distance else query @ nodes.T

    def scores(self, nodes: Tensor, edges: Tensor) -> Scores:
        """Score nodes by the tables' rows."""
        return lambda given, relations, side: self.compare(
            self.query(nodes[given.to(nodes.device)], edges[relations.to(nodes.device)], side), nodes
        )


FAMILIES = {
    "transe": Family(
        partial(TransE, p_norm=2.0),
        lambda model: (functional.normalize(model.node_emb.weight, dim=1), model.rel_emb.weight),
        _translate,
        distance=True,
        temperature=0.15,
    ),
    "distmult": Family(DistMult, lambda model: (model.node_emb.weight, model.rel_emb.weight), _scale),
    "complex": Family(
        ComplEx,
        lambda model: (_joined(model.node_emb, model.node_emb_im), _joined(model.rel_emb, model.rel_emb_im)),
        _turn,
        parts=2,
    ),
    "rotate": Family(
        partial(RotatE, margin=0.0),
        lambda model: (
            _joined(model.node_emb, model.node_emb_im),
            torch.cat((model.rel_emb.weight.cos(), model.rel_emb.weight.sin()), 1),
        ),
        _turn,
        distance=True,
        temperature=0.4,
        parts=2,
    ),
}
"""PyG's models by name: TransE (Bordes et al. 2013), DistMult (Yang et al. 2015), ComplEx (Trouillon et al.
2016), RotatE (Sun et al. 2019)."""


@dataclass(frozen=True, slots=True)
class NodeEmbeddings:
    """Vectors of a graph's nodes and relations, numbered as the graph numbers them.

    nodes : (n_items + n_entities, dim) float32, items first
    edges : (n_relations, dim) float32
    model : the family they score by; complex vectors are [real | imaginary], rotations [cos | sin]
    """

    model: str
    items: tuple[str, ...]
    entities: tuple[str, ...]
    relations: tuple[str, ...]
    nodes: NDArray[np.float32]
    edges: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.model not in FAMILIES:
            raise ValueError(f"model must be one of {sorted(FAMILIES)}, got {self.model!r}")
        width = self.nodes.shape[-1]
        for name, array, rows in (
            ("nodes", self.nodes, len(self.items) + len(self.entities)),
            ("edges", self.edges, len(self.relations)),
        ):
            if array.shape != (rows, width):
                raise ValueError(f"{name} must have shape {(rows, width)}, got {array.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite, got NaN or infinity")

    def scores(self, device: str | torch.device = "cpu") -> Scores:
        """Score nodes by these vectors, on the device."""
        tables = (torch.as_tensor(table).to(device) for table in (self.nodes, self.edges))
        return FAMILIES[self.model].scores(*tables)

    def with_nodes(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> "NodeEmbeddings":
        """Return a copy whose nodes `rows`, (m,), have the vectors given, (m, dim)."""
        nodes = self.nodes.copy()
        nodes[rows] = vectors
        return replace(self, nodes=nodes)

    def save(self, path: Path) -> None:
        """Write as .npz; equal embeddings give equal bytes."""
        names = json.dumps([self.model, self.items, self.entities, self.relations]).encode()
        with path.open("wb") as file:
            np.savez(file, names=np.frombuffer(names, np.uint8), nodes=self.nodes, edges=self.edges)

    @classmethod
    def load(cls, path: Path) -> "NodeEmbeddings":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file is not of that kind, or its parts do not fit together.
        """
        names, nodes, edges = read_arrays(path, "node embeddings", "names", "nodes", "edges")
        try:
            model, items, entities, relations = json.loads(names.tobytes())
            return cls(model, tuple(items), tuple(entities), tuple(relations), nodes, edges)
        except (TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(f"{str(path)!r} must hold node embeddings: {error}") from None


def initial_weights(
    embeddings: NodeEmbeddings, vocabulary: Vocabulary, encoder: ItemEncoder
) -> dict[str, Tensor]:
    """Weights for the encoder's tables of items, entities and relations to start training from.

    Each kind of vector is centred (what all items share tells none apart) and scaled to the standard
    deviation the tables are initialised with. Names that the embeddings lack, and row 0, keep what the
    encoder has.

    Returns
    -------
    weights
        A partial state for ``encoder.load_state_dict(weights, strict=False)``; the encoder is not changed.

    Raises
    ------
    ValueError
        If the embeddings are not as wide as the encoder.
    """
    dim = encoder.config.dim
    if embeddings.nodes.shape[1] != dim:
        raise ValueError(f"embeddings must have the encoder's width {dim}, got {embeddings.nodes.shape[1]}")
    n_items = len(embeddings.items)
    kinds: dict[str, tuple[Sequence[str], NDArray[np.float32], Mapping[str, int]]] = {
        "items": (embeddings.items, embeddings.nodes[:n_items], vocabulary.item_rows),
        "entities": (embeddings.entities, embeddings.nodes[n_items:], vocabulary.entity_rows),
        "relations": (embeddings.relations, embeddings.edges, vocabulary.relation_rows),
    }
    weights = {}
    for kind, (names, vectors, rows) in kinds.items():
        table = getattr(encoder, kind).weight.detach().clone()
        known = [row for row, name in enumerate(names) if name in rows]
        centred = vectors[known] - vectors[known].mean(0) if known else vectors[known]
        spread = float(centred.std()) if known else 0.0
        if spread > 0.0:
            scaled = torch.as_tensor(centred * (dim**-0.5 / spread)).to(table)
            table[[rows[names[row]] for row in known]] = scaled
        weights[f"{kind}.weight"] = table
    return weights


@dataclass(frozen=True, slots=True)
class NameMap:
    """A linear map from the text embedding of a node's name to the node's vector.

    text_mean : (T,), mean : (dim,), weights : (T, dim), float64
    """

    text_mean: NDArray[np.float64]
    mean: NDArray[np.float64]
    weights: NDArray[np.float64]

    def vectors(self, text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors for names, given their text embeddings (n, T): (n, dim) float32."""
        return ((text - self.text_mean) @ self.weights + self.mean).astype(np.float32)


def fit_name_map(
    text: NDArray[np.float32],
    vectors: NDArray[np.float32],
    penalties: Sequence[float] = (0.1, 1.0, 10.0, 100.0, 1000.0),
) -> NameMap:
    """Fit by ridge regression, with the penalty of the least leave-one-out error.

    That error needs no refitting: it is the residual over 1 minus the leverage (Allen 1974, PRESS; Golub,
    Heath & Wahba 1979, "Generalized cross-validation").

    Parameters
    ----------
    text : (n, T) float32, embeddings of names by `TextEncoder`
    vectors : (n, dim) float32, of the nodes with these names

    Raises
    ------
    ValueError
        If there are fewer than two names, or as many vectors as names are not given.
    """
    if len(text) != len(vectors) or len(text) < 2:
        raise ValueError(f"at least 2 names must have vectors, got {len(text)} and {len(vectors)}")
    text_mean, mean = text.mean(0, dtype=np.float64), vectors.mean(0, dtype=np.float64)
    u, s, vt = np.linalg.svd(text - text_mean, full_matrices=False)
    wanted = vectors - mean
    projected = u.T @ wanted  # (rank, dim)
    errors = []
    for penalty in penalties:
        shrink = s**2 / (s**2 + penalty)
        leverage = (u**2) @ shrink + 1.0 / len(text)
        residual = (wanted - u @ (shrink[:, None] * projected)) / (1.0 - leverage[:, None])
        errors.append(float((residual**2).sum()))
    penalty = penalties[int(np.argmin(errors))]
    return NameMap(text_mean, mean, vt.T @ ((s / (s**2 + penalty))[:, None] * projected))
