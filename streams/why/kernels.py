"""Compiled loops over the slates of a batch: what their items share with their users' histories.

Other threads may change the catalogue and the counts meanwhile. What is read may then be of before or after
the change, so every index that was read is checked before it is used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.signals.co_visitation_kernels import GROUP, Tables

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Edges = NDArray[np.int32]

njit = numba.njit(cache=True, nogil=True)


@njit
def positives(
    items: Ints,
    actions: Ints,
    times: Ints,
    positive: NDArray[np.bool_],
    now_ms: Ints,
    half_life_ms: float,
    out_items: Ints,
    out_actions: Ints,
    decay: Floats,
) -> None:
    """Write each user's last positive events, most recent last, and ``2 ** -(age / half life)`` of each.

    The outputs, (B, H), hold padding already: -1, -1 and 0.
    """
    for b in range(len(items)):
        column = out_items.shape[1] - 1
        for k in range(items.shape[1] - 1, -1, -1):
            if items[b, k] < 0 or column < 0:
                break
            if positive[actions[b, k]]:
                age = float(now_ms[b] - times[b, k]) / half_life_ms
                age = min(max(age, -100.0), 100.0)
                out_items[b, column] = items[b, k]
                out_actions[b, column] = actions[b, k]
                decay[b, column] = max(2.0**-age, 1e-30)
                column -= 1


@njit
def affinities(
    edges: Edges,
    n_entities: int,
    n_edges: int,
    items: Ints,
    weights: Floats,
    entities: NDArray[np.int32],
    strengths: Floats,
) -> None:
    """Write each user's strongest entities, (B, top); they hold -1 and 0 already. Ties: the newest."""
    total = np.zeros(n_entities, np.float32)
    touched = np.empty(items.shape[1] * n_edges, np.int32)
    for b in range(len(items)):
        n_touched = 0
        for h in range(items.shape[1] - 1, -1, -1):
            item = items[b, h]
            if item < 0 or item >= len(edges):
                continue
            for k in range(n_edges):
                entity = edges[item, k, 0]
                if entity < 0 or entity >= n_entities:
                    break
                if total[entity] == 0:
                    touched[n_touched] = entity
                    n_touched += 1
                total[entity] += weights[b, h]
        for rank in range(min(entities.shape[1], n_touched)):
            best = touched[0]
            for k in range(n_touched):
                if total[touched[k]] > total[best]:
                    best = touched[k]
            entities[b, rank] = best
            strengths[b, rank] = total[best]
            total[best] = -1
        for k in range(n_touched):
            total[touched[k]] = 0


@njit
def best_paths(
    edges: Edges,
    degrees: NDArray[np.int32],
    n_live: int,
    n_entities: int,
    history: Ints,
    weights: Floats,
    items: Ints,
    out: Ints,
) -> None:
    """Write for each item of each slate (position in history, edge column): (B, K, 2), -1 = none shared.

    The path through entity e from event h counts weights[h] * log(1 + n_live / degree of e): rare entities
    say more.
    """
    strongest = np.zeros(n_entities, np.float32)
    through = np.zeros(n_entities, np.int32)
    n_entities = min(n_entities, len(degrees))
    for b in range(len(history)):
        for clear in range(2):
            for h in range(history.shape[1]):
                if history[b, h] < 0 or history[b, h] >= len(edges):
                    continue
                for k in range(edges.shape[1]):
                    entity = edges[history[b, h], k, 0]
                    if entity < 0 or entity >= n_entities:
                        break
                    if clear:
                        strongest[entity] = 0
                    elif weights[b, h] >= strongest[entity]:
                        strongest[entity] = weights[b, h]
                        through[entity] = h
            if not clear:
                _paths_of(
                    edges, degrees, n_live, n_entities, history[b], items[b], strongest, through, out[b]
                )


@njit
def _paths_of(
    edges: Edges,
    degrees: NDArray[np.int32],
    n_live: int,
    n_entities: int,
    history: Ints,
    items: Ints,
    strongest: Floats,
    through: NDArray[np.int32],
    out: Ints,
) -> None:
    for i in range(len(items)):
        out[i, 0] = -1
        out[i, 1] = -1
        best = 0.0
        if items[i] < 0 or items[i] >= len(edges):
            continue
        for k in range(edges.shape[1]):
            entity = edges[items[i], k, 0]
            if entity < 0 or entity >= n_entities:
                break
            if strongest[entity] > 0 and history[through[entity]] != items[i]:
                strength = strongest[entity] * np.log(1.0 + n_live / max(1, degrees[entity]))
                if strength > best:
                    best = strength
                    out[i, 0] = through[entity]
                    out[i, 1] = k


@njit
def pair_counts(t: Tables, history: Ints, items: Ints, out: Floats) -> None:
    """Add the co-visit counts of each user's history and slate, in units, to out (B, H, K)."""
    groups, start, level, low_bits = t.groups, t.start, t.level, t.low_bits
    for b in range(len(history)):
        for h in range(history.shape[1]):
            row = history[b, h]
            if row < 0 or row >= len(start) or start[row] < 0:
                continue
            for i in range(items.shape[1]):
                item = items[b, i]
                if item < 0 or item >= len(start):
                    continue
                group = start[row] + (low_bits[item] & ((1 << level[row]) - 1))
                if group < 0 or group >= len(groups):
                    continue
                for slot in range(GROUP):
                    if groups[group, 0, slot] == item:
                        out[b, h, i] += groups[group, 1, slot]


@njit
def strongest_parts(
    history: Ints, weights: Floats, counts: Floats, best: Ints, share: NDArray[np.float64]
) -> None:
    """Which item of a history adds most to each item of a slate, and its share of the sum.

    An item's part is its count times the weights of all its events. best : (B, K) row of the item, -1 where
    the sum is not positive; of equal ones the lowest row
    """
    size = history.shape[1]
    together = np.empty(size, np.float64)
    for b in range(len(history)):
        for h in range(size):  # each item's weight at its first event, 0 at the others
            together[h] = weights[b, h] if history[b, h] >= 0 else 0.0
            for other in range(h):
                if history[b, h] == history[b, other]:
                    together[other] += together[h]
                    together[h] = 0.0
                    break
        for i in range(best.shape[1]):
            total = largest = 0.0
            best[b, i] = -1
            share[b, i] = 0.0
            for h in range(size):
                part = together[h] * counts[b, h, i]
                total += part
                if part > largest or (part == largest and part > 0 and history[b, h] < best[b, i]):
                    largest = part
                    best[b, i] = history[b, h]
            if total > 0:
                share[b, i] = largest / total
            else:
                best[b, i] = -1
