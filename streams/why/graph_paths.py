"""The knowledge graph at read: the ways from users' histories to items, for a batch of users.

A function of users' events and the catalogue's edges of today, so it needs no state of its own, and an item
that is described after it was clicked counts as well.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_core.signals.pasts import Positives
from streams.state.catalogue import Catalogue
from streams.why import kernels


class Path(NamedTuple):
    """From an item that the user did something with, over an entity, to another item."""

    item_row: int
    action: str
    relation: str
    entity: str


def best_paths(
    catalogue: Catalogue,
    liked: Positives,
    items: NDArray[np.int64],
    *,
    actions: Sequence[str],
    action_weights: NDArray[np.float32],
) -> list[list[Path | None]]:
    """Find the strongest path from each user's history to each item; None where no entity is shared.

    Parameters
    ----------
    items : (B, K) int64 rows, -1 = padding
    actions, action_weights : names and weights, (n_actions,) float32, by action code
    """
    found = np.empty((*items.shape, 2), np.int64)
    edges, n_entities = catalogue.edge_table, len(catalogue.entities)
    kernels.best_paths(
        edges, catalogue.degrees, catalogue.n_live, n_entities, liked.items, weighed(liked, action_weights),
        items, found,
    )  # fmt: skip
    met, column = found[..., 0], found[..., 1]
    there = met >= 0
    if not there.any():  # a catalogue without an item has no edge to look at either
        return [[None] * items.shape[1] for _ in items]
    users = np.arange(len(items))[:, None]
    links = edges[np.where(there, items, 0), np.maximum(column, 0)]  # (B, K, 2)
    columns = (
        there, liked.items[users, met], liked.actions[users, met], links[..., 0], links[..., 1],
    )  # fmt: skip
    return [
        [
            _path(catalogue, row, actions[action], entity, relation) if found else None
            for found, row, action, entity, relation in zip(*of_slate, strict=True)
        ]
        for of_slate in zip(*(values.tolist() for values in columns), strict=True)
    ]


def weighed(liked: Positives, action_weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how much each event counts: (B, H) float32, 0 = padding."""
    weights: NDArray[np.float32] = liked.weights * np.abs(action_weights)[liked.actions]
    return weights.astype(np.float32, copy=False)


def _path(catalogue: Catalogue, row: int, action: str, entity: int, relation: int) -> Path | None:
    # The edges may have changed since the path was found.
    if entity < 0 or not catalogue.title(row):
        return None
    return Path(
        item_row=row, action=action, relation=catalogue.relations[relation], entity=catalogue.entities[entity]
    )
