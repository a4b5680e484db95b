"""Compiled loops over the slates of a batch: what their items share with their users' histories.

Other threads may change the catalogue and the counts meanwhile. What is read may then be of before or after
the change, so every index that was read is checked before it is used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inner, prefetch
from model_core.signals.neighbour_groups import GROUP, GROUP_BYTES, UNIT
from model_core.signals.parts import arrays_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Edges = NDArray[np.int32]

COVISITS_THAT_COUNT = 2.0  # together, over all users, weighted by distance

njit = numba.njit(cache=True, nogil=True)


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
def explain(  # type: ignore[no-untyped-def]
    parts, liked, actions, ages, action_weights, window, window_weights, slates,
    edges, degrees, n_live, n_entities,
    place, ease_liked, ease_begin, ease_end, ease_bounds, ease_items, ease_weights,
    row_of, size, new_rows, new_weights, found, shares,
):  # fmt: skip
    """Write where each item of each slate comes from.

    Parameters
    ----------
    parts : (P, ...) int64, of `model_core.signals.parts.Parts`
    liked, actions, ages : (B, H) int64 and float32, last positive events and what each counts by its age
    action_weights : (n_actions,) float32, what it counts by its action
    window, window_weights : (B, W) int64, the events that co-visits are read from
    slates : (B, K) int64 item rows, -1 = no position
    place : (n,) int32 of each item row, the item of EASE, -1 = unknown to it
    ease_liked, ... : of `model_core.signals.joint.LikedItems`; places of what users liked
    row_of : of EASE's items, the item rows
    found : (B, K, 7) int64, written, -1 where there is none: of the strongest path the item, action,
        relation and entity; the liked item that it is met with most often; the items that co-visits and
        EASE owe most to
    shares : (B, K, 2) float64, written: their parts of the sums
    """
    n_liked, n_window = liked.shape[1], window.shape[1]
    weights = np.empty(liked.shape, np.float32)
    for b in range(len(liked)):
        for h in range(n_liked):
            weights[b, h] = ages[b, h] * action_weights[actions[b, h]]
    paths = np.empty((*slates.shape, 2), np.int64)
    best_paths(edges, degrees, n_live, n_entities, liked, weights, slates, paths)
    counts = np.empty((n_liked + n_window, slates.shape[1]), np.float32)
    history = np.empty(n_liked + n_window, np.int64)
    # Where the items of a slate stand in it: those that EASE knows, and one more of those that it does not.
    columns, new = np.full(len(ease_bounds), -1, np.int64), np.zeros(len(place), np.uint8)
    for b in range(len(slates)):
        _write_paths(edges, liked[b], actions[b], slates[b], paths[b], found[b])
        history[:n_liked] = liked[b]
        history[n_liked:] = window[b]
        _count_pairs(parts, history, slates[b], counts)
        _met_with(liked[b], weights[b], counts[:n_liked], slates[b], found[b])
        _strongest_part(window[b], window_weights[b], counts[n_liked:], found[b], shares[b])
        _strongest_ease(
            place, ease_liked[ease_begin[b] : ease_end[b]], ease_bounds, ease_items, ease_weights,
            size, new_rows, new_weights, columns, new, slates[b], found[b], shares[b],
        )  # fmt: skip
        for i in range(slates.shape[1]):
            if found[b, i, 6] >= 0:
                found[b, i, 6] = row_of[found[b, i, 6]]


@njit
def _write_paths(edges, liked, actions, slate, paths, found):  # type: ignore[no-untyped-def]
    for i in range(len(slate)):
        found[i] = -1
        at, column = paths[i, 0], paths[i, 1]
        # The edges may have changed since the path was found.
        if at >= 0 and edges[slate[i], column, 0] >= 0:
            found[i, 0], found[i, 1] = liked[at], actions[at]
            found[i, 2], found[i, 3] = edges[slate[i], column, 1], edges[slate[i], column, 0]


@njit
def _count_pairs(parts, history, slate, counts):  # type: ignore[no-untyped-def]
    """Write the co-visit counts of a user's events and a slate, (H, K); an item that recurs is read once."""
    counts[:] = 0
    first = np.empty(len(history), np.int64)
    for h in range(len(history)):
        first[h] = 0
        while history[first[h]] != history[h]:
            first[h] += 1
    for part in range(len(parts)):
        groups, start, level, low_bits = arrays_of(parts[part])
        _ask_for_counts(groups, start, level, low_bits, history, slate)
        for h in range(len(history)):
            if history[h] >= 0 and first[h] == h:
                _add_counts(groups, start, level, low_bits, history[h], slate, counts[h])
    for h in range(len(history)):
        if first[h] < h:
            counts[h] = counts[first[h]]
        else:
            counts[h] /= np.float32(UNIT)


@inner
def _ask_for_counts(groups, start, level, low_bits, history, slate):  # type: ignore[no-untyped-def]
    """Let memory bring what `_add_counts` will read, all at once."""
    for h in range(len(history)):
        row = history[h]
        if row < 0 or row >= len(start) or start[row] < 0:
            continue
        for i in range(len(slate)):
            item = slate[i]
            if 0 <= item < len(start):
                group = start[row] + (low_bits[item] & ((1 << level[row]) - 1))
                prefetch(groups, np.int64(group) * GROUP_BYTES)
                prefetch(groups, np.int64(group) * GROUP_BYTES + GROUP_BYTES // 2)


@inner
def _add_counts(groups, start, level, low_bits, row, slate, counts):  # type: ignore[no-untyped-def]
    if row >= len(start) or start[row] < 0:
        return
    for i in range(len(slate)):
        item = slate[i]
        if item < 0 or item >= len(start):
            continue
        group = start[row] + (low_bits[item] & ((1 << level[row]) - 1))
        if group < 0 or group >= len(groups):
            continue
        count = 0  # without an exit, so that the comparisons become vector instructions
        for slot in range(GROUP):
            count += groups[group, 1, slot] if groups[group, 0, slot] == item else 0
        counts[i] += count


@njit
def _met_with(liked, weights, counts, slate, found):  # type: ignore[no-untyped-def]
    for i in range(len(slate)):
        best, most = 0, np.float32(-1)
        for h in range(len(liked)):
            together = counts[h, i] * weights[h]
            if together > most:
                best, most = h, together
        if len(liked) and counts[best, i] >= COVISITS_THAT_COUNT and liked[best] != slate[i]:
            found[i, 4] = liked[best]


@njit
def _strongest_part(window, weights, counts, found, shares):  # type: ignore[no-untyped-def]
    """Return the item of a history that adds most to each item of a slate, and its share of the sum.

    An item's part is its count times the weights of all its events; of equal ones the lowest row.
    """
    size = len(window)
    together = np.empty(size, np.float64)
    for h in range(size):  # each item's weight at its first event, 0 at the others
        together[h] = weights[h] if window[h] >= 0 else 0.0
        for other in range(h):
            if window[h] == window[other]:
                together[other] += together[h]
                together[h] = 0.0
                break
    for i in range(len(found)):
        total = largest = 0.0
        best = -1
        for h in range(size):
            part = together[h] * counts[h, i]
            total += part
            if part > largest or (part == largest and part > 0 and window[h] < best):
                largest = part
                best = window[h]
        found[i, 5] = best if total > 0 else -1
        shares[i, 0] = largest / total if total > 0 else 0.0


@njit
def _strongest_ease(  # type: ignore[no-untyped-def]
    place, liked, bounds, items, weights, size, new_rows, new_weights, columns, new, slate, found, shares
):
    """The same of EASE, whose sums take an item liked twice once."""
    for i in range(len(slate)):
        row = slate[i]
        if 0 <= row < len(place):
            if place[row] >= 0:
                columns[place[row]] = i
            else:
                new[row] = i + 1
    total, largest = np.zeros(len(slate)), np.full(len(slate), -np.inf)
    part = np.empty(len(slate))
    for m in range(len(liked)):
        item = liked[m]
        if item < 0 or np.any(liked[:m] == item):
            continue
        part[:] = 0.0
        for k in range(bounds[item], bounds[item + 1]):
            if columns[items[k]] >= 0:
                part[columns[items[k]]] += weights[k]
        for k in range(size[item]):
            row = new_rows[item, k]
            if row < len(new) and new[row]:
                part[new[row] - 1] += new_weights[item, k]
        for i in range(len(slate)):
            total[i] += part[i]
            if part[i] > largest[i]:
                largest[i] = part[i]
                found[i, 6] = item
    for i in range(len(slate)):
        if not total[i] > 0:
            found[i, 6] = -1
        shares[i, 1] = largest[i] / total[i] if total[i] > 0 else 0.0
        if 0 <= slate[i] < len(place):
            new[slate[i]] = 0
            if place[slate[i]] >= 0:
                columns[place[slate[i]]] = -1
