"""The knowledge graph at read: users' affinities to entities, and why an item suits a user.

Both are functions of a user's ring of events and the catalogue's edges of today, so they need no state of
their own, and an item that is described after it was clicked counts as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation import CoVisitation, pair_counts, total_popularity
from streams.state.catalogue import MAX_EDGES, Catalogue
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles
from streams.why.phrases import because_chosen, because_of, often_enjoyed

HISTORY = 50  # positive events that affinities and reasons are drawn from
HALF_LIFE_MS = 30 * 86_400_000
MAX_REASONS = 2
COVISITS_THAT_COUNT = 2.0  # together, over all users, weighted by distance
POPULAR, NEW = "popular right now", "new"

njit = numba.njit(cache=True, nogil=True)


@njit
def _affinities(
    edges: NDArray[np.int32],
    items: NDArray[np.int64],
    weights: NDArray[np.float32],
    n_edges: int,
    total: NDArray[np.float32],
    entities: NDArray[np.int32],
    strengths: NDArray[np.float32],
) -> int:
    touched = np.empty(len(items) * n_edges, np.int32)
    n_touched = 0
    for h in range(len(items) - 1, -1, -1):
        item = items[h]
        if item >= len(edges):
            continue
        for k in range(n_edges):
            entity = edges[item, k, 0]
            if entity < 0:
                break
            if total[entity] == 0:
                touched[n_touched] = entity
                n_touched += 1
            total[entity] += weights[h]
    found = min(len(entities), n_touched)
    for rank in range(found):
        best = touched[0]
        for k in range(n_touched):
            entity = touched[k]
            if total[entity] > total[best]:
                best = entity
        entities[rank] = best
        strengths[rank] = total[best]
        total[best] = -1
    return found


@njit
def _best_paths(
    edges: NDArray[np.int32],
    degrees: NDArray[np.int32],
    n_live: int,
    history: NDArray[np.int64],
    weights: NDArray[np.float32],
    items: NDArray[np.int64],
    strongest: NDArray[np.float32],
    through: NDArray[np.int32],
    out: NDArray[np.int64],
) -> None:
    """For each item, (position in history, edge column), -1 where no entity is shared.

    The path through entity e from event h counts weights[h] * log(1 + n_live / degree of e): rare entities
    say more. strongest and through, zeroed, have a cell for every entity.
    """
    for h in range(len(history)):
        if history[h] < len(edges):
            for k in range(edges.shape[1]):
                entity = edges[history[h], k, 0]
                if entity < 0:
                    break
                if weights[h] >= strongest[entity]:
                    strongest[entity] = weights[h]
                    through[entity] = h
    for i in range(len(items)):
        out[i, 0] = -1
        best = 0.0
        if items[i] < 0 or items[i] >= len(edges):
            continue
        for k in range(edges.shape[1]):
            entity = edges[items[i], k, 0]
            if entity < 0:
                break
            if strongest[entity] > 0 and history[through[entity]] != items[i]:
                strength = strongest[entity] * np.log(1.0 + n_live / max(1, degrees[entity]))
                if strength > best:
                    best = strength
                    out[i, 0] = through[entity]
                    out[i, 1] = k


def affinities(
    catalogue: Catalogue,
    profiles: Profiles,
    user_row: int,
    *,
    now_ms: int,
    half_life_ms: float = HALF_LIFE_MS,
    top: int,
    n_edges: int = MAX_EDGES,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the entities that a user's last positive items are linked to, the strongest first.

    An edge weighs ``2 ** -(age / half life)``, an entity the sum over its edges, as in training. Of each
    item the first `n_edges` count.

    Returns
    -------
    entities : (n,) int32, rows of `catalogue.entities`, n at most `top`
    strengths : (n,) float32
    """
    items, weights, _ = _positives(profiles, user_row, now_ms, half_life_ms)
    entities, strengths = np.empty(top, np.int32), np.empty(top, np.float32)
    total = np.zeros(len(catalogue.entities), np.float32)
    found = _affinities(
        catalogue.edge_table, items, weights, min(n_edges, MAX_EDGES), total, entities, strengths
    )
    return entities[:found], strengths[:found]


def _positives(
    profiles: Profiles, user_row: int, now_ms: int, half_life_ms: float
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Items, decay and actions of a user's last positive events, oldest first."""
    items, actions, times = profiles.history(user_row, 4 * HISTORY)
    kept = np.flatnonzero(profiles.positive[actions])[-HISTORY:]
    ages = np.clip(now_ms - times[kept], -100 * half_life_ms, 100 * half_life_ms)
    decay = np.maximum(np.exp2(-ages / half_life_ms), 1e-30)
    return items[kept], decay.astype(np.float32), actions[kept]


def reasons(
    catalogue: Catalogue,
    index: ItemIndex,
    profiles: Profiles,
    user_row: int,
    item_rows: NDArray[np.int64],
    *,
    now_ms: int,
    actions: Sequence[str],
    action_weights: NDArray[np.float32],
    covisits: Sequence[CoVisitation],
) -> list[list[str]]:
    """Say why each item suits the user, in words: at least one reason and at most two an item.

    In this order: a stated preference that the item meets; the strongest path over a shared entity from
    something the user liked; something the user liked and whose users also liked the item; that the item
    is popular, or new. Never raises: an unknown user or item gets a general reason.

    Parameters
    ----------
    user_row
        -1 = unknown.
    item_rows : (k,) int64
    """
    item_rows = np.ascontiguousarray(item_rows, np.int64)
    found: list[list[str]] = [[] for _ in range(len(item_rows))]
    if user_row >= 0:
        _stated(catalogue, profiles, user_row, item_rows, found)
        history, weights, codes = _positives(profiles, user_row, now_ms, HALF_LIFE_MS)
        weights = (weights * np.abs(action_weights)[codes]).astype(np.float32)
        names = [actions[code] for code in codes.tolist()]
        for reasons_of_item, path in zip(
            found, _paths(catalogue, history, weights, names, item_rows), strict=True
        ):
            if path is not None:
                title = catalogue.title(path.item_row)
                reasons_of_item.append(because_of(path.action, title, path.relation, path.entity))
        _covisited(catalogue, covisits, history, weights, item_rows, found)
    popularity = total_popularity(covisits, len(index))
    for reasons_of_item, row in zip(found, item_rows.tolist(), strict=True):
        if not reasons_of_item:
            popular = 0 <= row < len(popularity) and popularity[row] > 0
            reasons_of_item.append(POPULAR if popular else NEW)
        del reasons_of_item[MAX_REASONS:]
    return found


@dataclass(frozen=True, slots=True)
class Path:
    """From an item that the user did something with, over an entity, to another item."""

    item_row: int
    action: str
    relation: str
    entity: str


def best_paths(
    catalogue: Catalogue,
    profiles: Profiles,
    user_row: int,
    item_rows: NDArray[np.int64],
    *,
    now_ms: int,
    actions: Sequence[str],
    action_weights: NDArray[np.float32],
) -> list[Path | None]:
    """Find the path that `reasons` speaks of for each item; None where no entity is shared."""
    if user_row < 0:
        return [None] * len(item_rows)
    history, weights, codes = _positives(profiles, user_row, now_ms, HALF_LIFE_MS)
    weights = (weights * np.abs(action_weights)[codes]).astype(np.float32)
    return _paths(catalogue, history, weights, [actions[code] for code in codes.tolist()], item_rows)


def _stated(
    catalogue: Catalogue, profiles: Profiles, user_row: int, items: NDArray[np.int64], found: list[list[str]]
) -> None:
    wanted = {catalogue.entity_row(name) for name in profiles.preferences(user_row)} - {-1}
    if not wanted:
        return
    entities, relations, mask = catalogue.edges(items, catalogue.edge_table.shape[1])
    for i, (names, kinds) in enumerate(zip(entities.tolist(), relations.tolist(), strict=True)):
        for k, entity in enumerate(names):
            if mask[i, k] and entity in wanted:
                found[i].append(because_chosen(catalogue.relations[kinds[k]], catalogue.entities[entity]))
                break


def _paths(
    catalogue: Catalogue,
    history: NDArray[np.int64],
    weights: NDArray[np.float32],
    actions: list[str],
    items: NDArray[np.int64],
) -> list[Path | None]:
    paths = np.zeros((len(items), 2), np.int64)
    n_entities = len(catalogue.entities)
    _best_paths(
        catalogue.edge_table, catalogue.degrees, catalogue.n_live, history, weights, items,
        np.zeros(n_entities, np.float32), np.zeros(n_entities, np.int32), paths,
    )  # fmt: skip
    found: list[Path | None] = []
    for i, (h, column) in enumerate(paths.tolist()):
        if h < 0 or not catalogue.title(int(history[h])):
            found.append(None)
            continue
        entity, relation = catalogue.edge_table[items[i], column].tolist()
        found.append(
            Path(
                item_row=int(history[h]),
                action=actions[h],
                relation=catalogue.relations[relation],
                entity=catalogue.entities[entity],
            )
        )
    return found


def _covisited(
    catalogue: Catalogue,
    covisits: Sequence[CoVisitation],
    history: NDArray[np.int64],
    weights: NDArray[np.float32],
    items: NDArray[np.int64],
    found: list[list[str]],
) -> None:
    if not len(history) or not len(items):
        return
    counts = pair_counts(covisits, history, items)
    best = (counts * weights[:, None]).argmax(axis=0)
    for i, h in enumerate(best.tolist()):
        title = catalogue.title(int(history[h]))
        if title and counts[h, i] >= COVISITS_THAT_COUNT and history[h] != items[i]:
            found[i].append(often_enjoyed(title))
