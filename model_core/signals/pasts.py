"""Users' events before a moment, and the features read from them: one definition for training and serving.

Events count in the order in which they came; training has them in time order, equal times as in the file. Of
a user the last `SignalConfig.depth` events count, and of those the ones whose item is described: an event
with any other item is passed over, as though it had not been. An event dated after the request is as old as
one of that moment.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

# They take microseconds a user, and so keep the interpreter: to have it again, once another thread has it,
# takes as long as a hundred users.
njit = numba.njit(cache=True)

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float32]

MIN_WEIGHT = 1e-30  # of a weight: above 0, however old the event


class Pasts(NamedTuple):
    """Events of B users, oldest first: of user b the events ``bounds[b]`` to ``bounds[b + 1]``.

    bounds : (B + 1,) int64; items : (M,) int32 rows; actions : (M,) uint8 codes; positive : (M,) bool;
    times_ms : (M,) int64
    """

    bounds: Ints
    items: Rows
    actions: NDArray[np.uint8]
    positive: Flags
    times_ms: Ints


class Positives(NamedTuple):
    """Last positive events of B users: items and actions, (B, H) int64, -1 = padding on the left.

    weights : (B, H) float32, ``2 ** -(age / half life)``, 0 = padding
    """

    items: Ints
    actions: Ints
    weights: Floats


class Window(NamedTuple):
    """The events of B users that co-visits are read from, most recent last.

    rows : (B, W) int64, -1 = padding on the left
    weights : (B, W) int64, of `co_visitation_scores.read_weights`
    """

    rows: Ints
    weights: Ints


def histories(
    pasts: Pasts, described: Flags, now_ms: Ints, *, codes: Ints, length: int
) -> tuple[Ints, Ints, Floats]:
    """Last events of each user, as the networks read them.

    Parameters
    ----------
    described : (n,) bool by item row; now_ms : (B,) int64
    codes : (n_actions,) int64, a release's code of each action

    Returns
    -------
    items : (B, length) int64 rows, most recent last, -1 = padding on the left
    actions : (B, length) int64; ages : (B, length) float32 seconds; both 0 in padding
    """
    shape = (len(now_ms), length)
    items, actions, ages = np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(shape, np.float32)
    _histories(pasts, described, now_ms, codes, items, actions, ages)
    return items, actions, ages


def positives(pasts: Pasts, described: Flags, now_ms: Ints, *, most: int, half_life_ms: float) -> Positives:
    """Last `most` positive events of each user.

    Parameters
    ----------
    described : (n,) bool by item row; now_ms : (B,) int64
    """
    shape = (len(now_ms), most)
    found = Positives(np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(shape, np.float32))
    _positives(pasts, described, now_ms, float(half_life_ms), found)
    return found


def affinities(liked: Positives, edges: Rows, *, n_entities: int, top: int) -> tuple[Ints, Floats]:
    """Entities that users' last positive items are linked to, the heaviest first; of equals the lower row.

    An edge weighs as much as its event; an entity, the sum over its edges, from the newest event on.

    Parameters
    ----------
    edges : (n, K) int32 entities of each item row, from 1; 0 = none, or not known
    n_entities : rows of entities, 0 included

    Returns
    -------
    entities : (B, top) int64, 0 = padding on the right; weights : (B, top) float32
    """
    shape = (len(liked.items), top)
    entities, weights = np.empty(shape, np.int64), np.empty(shape, np.float32)
    _affinities(liked.items, liked.weights, edges, n_entities, entities, weights)
    return entities, weights


def recent(pasts: Pasts, described: Flags, weights: Ints) -> Window:
    """Last events of each user.

    Parameters
    ----------
    described : (n,) bool by item row
    weights : (2, W) int64, of `co_visitation_scores.read_weights`
    """
    shape = (len(pasts.bounds) - 1, weights.shape[1])
    found = Window(np.empty(shape, np.int64), np.empty(shape, np.int64))
    _recent(pasts, described, weights, *found)
    return found


@njit
def chosen(bounds: Ints, items: Rows, flags: Flags, described: Flags) -> tuple[Ints, Rows]:
    """Items of the events of each user that a flag is set for, oldest first, repeats allowed.

    Parameters
    ----------
    bounds, items : of `Pasts`; flags : (M,) bool, such as `Pasts.positive`
    described : (n,) bool by item row

    Returns
    -------
    bounds : (B + 1,) int64; rows : (m,) int32
    """
    found, rows = np.zeros(len(bounds), np.int64), np.empty(len(items), np.int32)
    n = 0
    for b in range(len(bounds) - 1):
        for k in range(bounds[b], bounds[b + 1]):
            if flags[k] and is_described(described, items[k]):
                rows[n] = items[k]
                n += 1
        found[b + 1] = n
    return found, rows[:n].copy()


@njit
def is_described(described: Flags, item: int) -> bool:
    """Whether an item row is one that counts."""
    return 0 <= item < len(described) and bool(described[item])


@njit
def _histories(
    p: Pasts, described: Flags, now_ms: Ints, codes: Ints, items: Ints, actions: Ints, ages: Floats
) -> None:
    bounds, all_items, all_actions, times = p.bounds, p.items, p.actions, p.times_ms
    items[:], actions[:], ages[:] = -1, 0, 0.0
    for b in range(len(now_ms)):
        column = items.shape[1] - 1
        for k in range(bounds[b + 1] - 1, bounds[b] - 1, -1):
            if column < 0:
                break
            if is_described(described, all_items[k]):
                items[b, column] = all_items[k]
                actions[b, column] = codes[all_actions[k]]
                ages[b, column] = max(now_ms[b] - times[k], 0) / 1000.0
                column -= 1


@njit
def _positives(p: Pasts, described: Flags, now_ms: Ints, half_life_ms: float, out: Positives) -> None:
    bounds, all_items, all_actions, positive, times = p
    items, actions, weights = out
    items[:], actions[:], weights[:] = -1, -1, 0.0
    for b in range(len(now_ms)):
        column = items.shape[1] - 1
        for k in range(bounds[b + 1] - 1, bounds[b] - 1, -1):
            if column < 0:
                break
            if positive[k] and is_described(described, all_items[k]):
                items[b, column] = all_items[k]
                actions[b, column] = all_actions[k]
                weights[b, column] = max(2.0 ** (-max(now_ms[b] - times[k], 0) / half_life_ms), MIN_WEIGHT)
                column -= 1


@njit
def _affinities(
    items: Ints, event_weights: Floats, edges: Rows, n_entities: int, entities: Ints, weights: Floats
) -> None:
    total = np.zeros(n_entities, np.float32)
    touched = np.empty(items.shape[1] * edges.shape[1], np.int32)
    entities[:], weights[:] = 0, 0.0
    for b in range(len(items)):
        n_touched = 0
        for h in range(items.shape[1] - 1, -1, -1):
            item = items[b, h]
            if item < 0:
                break
            if item >= len(edges):
                continue
            for k in range(edges.shape[1]):
                entity = edges[item, k]
                if entity <= 0:
                    continue
                if total[entity] == 0:
                    touched[n_touched] = entity
                    n_touched += 1
                total[entity] += event_weights[b, h]
        for rank in range(min(entities.shape[1], n_touched)):
            best = touched[0]
            for k in range(1, n_touched):
                entity = touched[k]
                if total[entity] > total[best] or (total[entity] == total[best] and entity < best):
                    best = entity
            entities[b, rank] = best
            weights[b, rank] = total[best]
            total[best] = -1
        for k in range(n_touched):
            total[touched[k]] = 0


@njit
def _recent(p: Pasts, described: Flags, read: Ints, rows: Ints, weights: Ints) -> None:
    bounds, items, positive = p.bounds, p.items, p.positive
    rows[:], weights[:] = -1, 0
    for b in range(len(bounds) - 1):
        column = rows.shape[1] - 1
        for k in range(bounds[b + 1] - 1, bounds[b] - 1, -1):
            if column < 0:
                break
            if is_described(described, items[k]):
                rows[b, column] = items[k]
                weights[b, column] = read[1 if positive[k] else 0, rows.shape[1] - 1 - column]
                column -= 1
