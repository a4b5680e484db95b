"""Names to rows: items, entities and relations as a release knows them, and items as padded arrays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from model_core.data.datasets import Item


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Rows of the names a release was trained with; row 0 stands for any other name."""

    item_rows: dict[str, int]
    entity_rows: dict[str, int]
    relation_rows: dict[str, int]

    @classmethod
    def of(cls, items: Iterable[Item], stated: Iterable[str] = ()) -> "Vocabulary":
        """Give rows to the items, to what their edges name and what users state, in order of appearance."""
        items = list(items)
        edges = [edge for item in items for edge in item.edges]
        return cls(
            _number(item.item_id for item in items),
            _number(chain((entity for _, entity in edges), stated)),
            _number(relation for relation, _ in edges),
        )


def _number(names: Iterable[str]) -> dict[str, int]:
    return {name: row for row, name in enumerate(dict.fromkeys(names), start=1)}


@dataclass(frozen=True, slots=True)
class Edges:
    """Padded neighbour lists.

    entities, relations : (n, K) int64 release rows (0 = unknown or padding)
    mask : (n, K) bool, False = padding or unknown
    """

    entities: NDArray[np.int64]
    relations: NDArray[np.int64]
    mask: NDArray[np.bool_]


def pad_edges(items: Sequence[Item], vocabulary: Vocabulary, n_neighbours: int) -> Edges:
    """Lay the first `n_neighbours` edges of each item out as arrays."""
    entities = np.zeros((len(items), n_neighbours), np.int64)
    relations = np.zeros_like(entities)
    for row, item in enumerate(items):
        for column, (relation, entity) in enumerate(item.edges[:n_neighbours]):
            entities[row, column] = vocabulary.entity_rows.get(entity, 0)
            relations[row, column] = vocabulary.relation_rows.get(relation, 0)
    return Edges(entities, relations, entities > 0)
