"""The knowledge graph at read: users' affinities to entities, and the ways from their histories to items.

Both are functions of users' events and the catalogue's edges of today, so they need no state of their own,
and an item that is described after it was clicked counts as well. All work on a batch of users.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.state.catalogue import MAX_EDGES, Catalogue
from streams.state.people import People
from streams.why import kernels

HISTORY = 50  # positive events that affinities and reasons are drawn from
READ = 4 * HISTORY  # last events of a user that these are looked for in
HALF_LIFE_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Positives:
    """Last positive events of B users: items, actions (B, HISTORY) int64, -1 = padding on the left.

    decay : (B, HISTORY) float32, ``2 ** -(age / half life)``, 0 = padding
    """

    items: NDArray[np.int64]
    actions: NDArray[np.int64]
    decay: NDArray[np.float32]


def positives(
    people: People,
    positive: NDArray[np.bool_],
    *,
    now_ms: NDArray[np.int64],
    half_life_ms: float = HALF_LIFE_MS,
) -> Positives:
    """Return what the users responded to, of their last `READ` events at most.

    Parameters
    ----------
    positive : (n_actions,) bool
    now_ms : (B,) int64
    """
    shape = (len(people), HISTORY)
    items, actions = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
    decay = np.zeros(shape, np.float32)
    read = [
        np.ascontiguousarray(column[:, -READ:]) for column in (people.items, people.actions, people.times)
    ]
    kernels.positives(read[0], read[1], read[2], positive, now_ms, float(half_life_ms), items, actions, decay)
    return Positives(items, actions, decay)


def affinities(
    catalogue: Catalogue, liked: Positives, *, top: int, n_edges: int = MAX_EDGES
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the entities that users' last positive items are linked to, the strongest first.

    An edge weighs as much as its event, an entity the sum over its edges, as in training. Of each item the
    first `n_edges` count.

    Returns
    -------
    entities : (B, top) int32, rows of `catalogue.entities`, -1 = padding on the right
    strengths : (B, top) float32
    """
    shape = (len(liked.items), top)
    entities, strengths = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
    kernels.affinities(
        catalogue.edge_table, len(catalogue.entities), min(n_edges, MAX_EDGES), liked.items, liked.decay,
        entities, strengths,
    )  # fmt: skip
    return entities, strengths


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
    """Return how much each event counts: (B, HISTORY) float32, 0 = padding."""
    weights: NDArray[np.float32] = liked.decay * np.abs(action_weights)[liked.actions]
    return weights.astype(np.float32, copy=False)


def _path(catalogue: Catalogue, row: int, action: str, entity: int, relation: int) -> Path | None:
    # The edges may have changed since the path was found.
    if entity < 0 or not catalogue.title(row):
        return None
    return Path(
        item_row=row, action=action, relation=catalogue.relations[relation], entity=catalogue.entities[entity]
    )
