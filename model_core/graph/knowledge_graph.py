"""A knowledge graph as numbered triples: its split, and the filtered ranks of what was held out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.data.datasets import Item

Side = Literal["head", "tail"]
"""Which end of a triple is asked for."""
SIDES: tuple[Side, ...] = ("head", "tail")
CUTOFFS = (1, 3, 10)

Scores = Callable[[Tensor, Tensor, Side], Tensor]
"""Given the other end's nodes and the relations, (b,) int64 each, scores of all nodes: (b, n_nodes)."""


@dataclass(frozen=True, slots=True)
class KnowledgeGraph:
    """Items and entities are nodes: item i is node i, entity j is node ``len(items) + j``.

    An item and an entity of the same name are two nodes, as they are in a `Vocabulary`.

    triples : (n, 3) int64: head node, relation, tail node; none twice
    """

    items: tuple[str, ...]
    entities: tuple[str, ...]
    relations: tuple[str, ...]
    triples: NDArray[np.int64]

    @property
    def n_nodes(self) -> int:
        """Items and entities."""
        return len(self.items) + len(self.entities)

    @classmethod
    def of(cls, items: Iterable[Item]) -> "KnowledgeGraph":
        """Number the edges of a dataset's items; an item without one is no node."""
        items = list(items)
        return cls.from_triples(
            ((item.item_id, relation, entity) for item in items for relation, entity in item.edges),
            (item.item_id for item in items),
        )

    @classmethod
    def from_triples(
        cls, triples: Iterable[tuple[str, str, str]], item_ids: Iterable[str]
    ) -> "KnowledgeGraph":
        """Number (head, relation, tail) in order of appearance; a repeated triple counts once.

        A head is the item of that id, else the entity of that name; a tail is always an entity.

        Raises
        ------
        ValueError
            If there is no triple, or a head is neither an item nor the tail of any triple.
        """
        named = list(dict.fromkeys(triples))
        if not named:
            raise ValueError("the graph must hold at least one triple, got none")
        known = set(item_ids)
        items = _number(head for head, _, _ in named if head in known)
        entities = _number(tail for _, _, tail in named)
        relations = _number(relation for _, relation, _ in named)
        rows = {name: len(items) + row for name, row in entities.items()}
        heads = rows | items
        for triple in named:
            if triple[0] not in heads:
                raise ValueError(
                    f"a triple's head must be an item or the tail of a triple, got {triple[0]!r} in {triple}"
                )
        numbers = [(heads[head], relations[relation], rows[tail]) for head, relation, tail in named]
        return cls(tuple(items), tuple(entities), tuple(relations), np.array(numbers, np.int64))


def _number(names: Iterable[str]) -> dict[str, int]:
    return {name: row for row, name in enumerate(dict.fromkeys(names))}


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint parts of a graph's triples: (n, 3) int64 each."""

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]


def split_triples(
    graph: KnowledgeGraph,
    *,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    unseen: NDArray[np.int64] | None = None,
) -> Split:
    """Draw the triples to validate and to test on; their nodes and relations all occur in training.

    All relations between one pair of nodes go to the same part: that a director also wrote the film would
    give the test away (Toutanova & Chen 2015, "Observed versus latent features for knowledge base and text
    inference", section 4). Where few triples can be spared, the drawn parts are smaller than asked for.

    Parameters
    ----------
    valid, test
        Fractions of the triples.
    unseen : (m,) int64
        Nodes that training shall know nothing of. Their triples are the test in place of a drawn one,
        save those whose other end or relation does not occur in training either.

    Raises
    ------
    ValueError
        If a fraction is out of range or nothing is left to train on.
    """
    if min(valid, test) < 0 or valid + test >= 1:
        raise ValueError(f"valid and test must be at least 0 and sum to less than 1, got {valid} and {test}")
    rng = np.random.default_rng(seed)
    triples, held = graph.triples, graph.triples[:0]
    if unseen is not None:
        touched = np.isin(triples[:, [0, 2]], unseen)
        triples, held = triples[~touched.any(1)], triples[touched.sum(1) == 1]
        test = 0.0
    if not len(triples):
        raise ValueError("a split must leave triples to train on, got none")
    triples = triples[rng.permutation(len(triples))]
    # A pair stays in training where a triple of it is the first to name a node or a relation.
    pairs, pair_of = np.unique(triples[:, 0] * graph.n_nodes + triples[:, 2], return_inverse=True)
    needed = np.zeros(len(pairs), np.bool_)
    needed[pair_of[np.unique(triples[:, 1], return_index=True)[1]]] = True
    needed[pair_of[np.unique(triples[:, [0, 2]], return_index=True)[1] // 2]] = True
    spare = rng.permutation(np.flatnonzero(~needed))
    sizes = np.cumsum(np.bincount(pair_of)[spare])
    part_of = np.zeros(len(pairs), np.int64)
    part_of[spare[sizes <= (valid + test) * len(triples)]] = 1
    part_of[spare[sizes <= test * len(triples)]] = 2
    train, validation, drawn = (triples[part_of[pair_of] == part] for part in range(3))
    if unseen is not None:
        known = np.isin(held[:, [0, 2]], train[:, [0, 2]]).any(1) & np.isin(held[:, 1], train[:, 1])
        drawn = held[known]
    return Split(train, validation, drawn)


def rank_triples(
    scores: Scores,
    triples: NDArray[np.int64],
    known: NDArray[np.int64],
    *,
    batch_size: int = 256,
) -> dict[Side, NDArray[np.float64]]:
    """Rank each triple's head and tail among all nodes, other nodes that are true there left out.

    The filtered ranks of Bordes et al. 2013 ("Translating embeddings for modeling multi-relational data",
    section 4.2), from 1; among nodes of equal score the mean rank, so that a constant scorer earns nothing
    (Berrendorf et al. 2020, "On the ambiguity of rank-based evaluation").

    Parameters
    ----------
    triples : (n, 3) int64, to rank
    known : (m, 3) int64, all true triples: training, validation and test

    Returns
    -------
    ranks
        (n,) float64 by side.

    Raises
    ------
    ValueError
        If there is nothing to rank or a score is NaN, which no comparison would notice.
    """
    if not len(triples):
        raise ValueError("there must be at least one triple to rank, got none")
    return {side: _ranks(scores, triples, known, side, batch_size) for side in SIDES}


@torch.inference_mode()
def _ranks(
    scores: Scores, triples: NDArray[np.int64], known: NDArray[np.int64], side: Side, batch_size: int
) -> NDArray[np.float64]:
    given, asked = (0, 2) if side == "tail" else (2, 0)
    n_relations = int(max(known[:, 1].max(initial=0), triples[:, 1].max())) + 1
    keys = known[:, given] * n_relations + known[:, 1]
    order = np.argsort(keys, kind="stable")
    keys, answers = keys[order], known[order, asked]
    wanted = triples[:, given] * n_relations + triples[:, 1]
    begins, ends = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
    ranks = []
    for start in range(0, len(triples), batch_size):
        batch = slice(start, start + batch_size)
        rows = torch.as_tensor(triples[batch])
        values = scores(rows[:, given], rows[:, 1], side).clone()  # (b, n_nodes)
        if values.isnan().any():
            raise ValueError("scores must not be NaN")
        rows = rows.to(values.device)
        own = values.gather(1, rows[:, asked, None])
        counts = ends[batch] - begins[batch]
        at = np.repeat(np.arange(len(counts)), counts)
        flat = np.arange(len(at)) + np.repeat(begins[batch] - np.cumsum(counts) + counts, counts)
        values[torch.as_tensor(at), torch.as_tensor(answers[flat])] = -torch.inf
        values.scatter_(1, rows[:, asked, None], -torch.inf)
        better, equal = (values > own).sum(1), (values == own).sum(1)
        ranks.append((1.0 + better + 0.5 * equal).double().cpu().numpy())
    return np.concatenate(ranks)


def ranking_quality(ranks: NDArray[np.float64]) -> dict[str, float]:
    """Mean reciprocal rank and share of ranks within 1, 3 and 10 of (n,) ranks."""
    hits = {f"hits@{cutoff}": float((ranks <= cutoff).mean()) for cutoff in CUTOFFS}
    return {"mrr": float((1.0 / ranks).mean())} | hits


def frequency_scores(train: NDArray[np.int64], n_nodes: int, n_relations: int) -> Scores:
    """Score a node by how often it is the head, or the tail, of the relation in training: a floor."""
    tables = {}
    for side, column in (("head", 0), ("tail", 2)):
        counts = torch.zeros(n_relations, n_nodes)
        index = (torch.as_tensor(train[:, 1]), torch.as_tensor(train[:, column]))
        tables[side] = counts.index_put_(index, torch.ones(len(train)), accumulate=True)
    return lambda given, relations, side: tables[side][relations]
