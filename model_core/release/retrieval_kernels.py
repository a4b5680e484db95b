"""Compiled loops of retrieval: scores of all items of a request, its best C, and what is said of these.

An item i of popularity p scores for request b, with m = the inner product of their vectors,

    weight[b] * level[i] + (gain[b] * m  if p > 0 else  m + newcomer[b]) + what is the request's own of i.

Of equal scores the first row is the best. Rows come in ascending order, so one that ties with the worst of
the best never replaces it, and no order of blocks shows. Of a whole catalogue whatever beats the best so far
is put into a buffer, of which the best are selected when it is full; of a few rows they are kept in a heap
whose root is the worst.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Longs = NDArray[np.int64]
Rows = NDArray[np.int32]
Flags = NDArray[np.bool_]

njit = numba.njit(cache=True, nogil=True, error_model="numpy")
# Sums in any order: so a product of two vectors becomes vector instructions.
njit_sum = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})


@njit_sum
def _dot(a: Floats, b: Floats) -> np.float32:
    total = np.float32(0)
    for d in range(len(a)):
        total += a[d] * b[d]
    return total


@njit
def _is_worse(scores: Floats, rows: Longs, a: int, b: int) -> bool:
    return bool(scores[a] < scores[b] or (scores[a] == scores[b] and rows[a] > rows[b]))


@njit
def _keep(scores: Floats, rows: Longs, size: int, score: float, row: int) -> int:
    """Put an item into a heap of at most ``len(scores)``, over its root when it is full; return the size."""
    if size < len(scores):
        at = size
        scores[at], rows[at] = score, row
        while at > 0 and _is_worse(scores, rows, at, (at - 1) >> 1):
            up = (at - 1) >> 1
            scores[at], scores[up] = scores[up], scores[at]
            rows[at], rows[up] = rows[up], rows[at]
            at = up
        return size + 1
    scores[0], rows[0] = score, row
    at = 0
    while True:
        worst = 2 * at + 1
        if worst >= size:
            return size
        if worst + 1 < size and _is_worse(scores, rows, worst + 1, worst):
            worst += 1
        if not _is_worse(scores, rows, worst, at):
            return size
        scores[at], scores[worst] = scores[worst], scores[at]
        rows[at], rows[worst] = rows[worst], rows[at]
        at = worst


@njit
def own_parts(
    bounds: Longs, values: Floats, weights: Floats, scales: Floats, floor: Floats, out: Floats
) -> None:
    """Write what signals of an item's own add to its score, over what they add where they are 0.

    values : (M, S) for rows of requests that `bounds` parts; weights : (B, S); scales : (S,)
    floor : (S,) logarithms of scales; out : (M,)
    """
    for b in range(len(bounds) - 1):
        for k in range(bounds[b], bounds[b + 1]):
            total = np.float32(0)
            for s in range(values.shape[1]):
                value = values[k, s]
                if value > np.float32(0):
                    total += weights[b, s] * (np.log(scales[s] + value) - floor[s])
            out[k] = total


@njit
def _select(scores: Floats, rows: Longs, size: int, wanted: int) -> Any:  # np.float32
    """Put the best `wanted` of the first `size` first, and return the lowest score of these.

    Hoare, "Algorithm 65: find", 1961.
    """
    low, high, last = 0, size - 1, wanted - 1
    while low < high:
        middle = (low + high) >> 1
        score, row = scores[middle], rows[middle]
        i, j = low, high
        while i <= j:
            while scores[i] > score or (scores[i] == score and rows[i] < row):
                i += 1
            while scores[j] < score or (scores[j] == score and rows[j] > row):
                j -= 1
            if i <= j:
                scores[i], scores[j] = scores[j], scores[i]
                rows[i], rows[j] = rows[j], rows[i]
                i += 1
                j -= 1
        if last <= j:
            high = j
        elif last >= i:
            low = i
        else:
            break
    least = scores[0]
    for i in range(1, wanted):
        least = min(least, scores[i])
    return least


@njit
def keep_best(
    matches: Floats,
    begin: int,
    asking: Longs,
    popularity: Floats,
    level: Floats,
    eligible: Flags,
    weight: Floats,
    gain: Floats,
    newcomer: Floats,
    bounds: Longs,
    own_rows: Rows,
    own: Floats,
    out_bounds: Longs,
    out_rows: Rows,
    cursors: Longs,
    wanted: int,
    best: Floats,
    best_rows: Longs,
    sizes: Longs,
    least: Floats,
) -> None:
    """Take a block of items into the best of some requests.

    matches : (len(asking), n), inner products with rows from `begin` on; overwritten
    asking : the requests, of those that all else is of
    cursors : (B, 2), where the lists of own parts and of excluded rows have been read up to
    best, best_rows : (B, more than `wanted`), of which the first `sizes` are candidates to be the best
    least : (B,), what a score must beat
    """
    nothing = np.float32(-np.inf)
    end = begin + matches.shape[1]
    popularity, level, eligible = popularity[begin:end], level[begin:end], eligible[begin:end]
    for at in range(len(asking)):
        b = asking[at]
        scores = matches[at]
        w, g, lift = weight[b], gain[b], newcomer[b]
        for i in range(len(scores)):
            m = scores[i]
            m = g * m if popularity[i] > 0 else m + lift
            scores[i] = m + w * level[i] if eligible[i] else nothing
        k = cursors[b, 0]
        while k < bounds[b + 1] and own_rows[k] < end:
            scores[own_rows[k] - begin] += own[k]
            k += 1
        cursors[b, 0] = k
        k = cursors[b, 1]
        while k < out_bounds[b + 1] and out_rows[k] < end:
            scores[out_rows[k] - begin] = nothing
            k += 1
        cursors[b, 1] = k
        kept, rows, size, bar = best[b], best_rows[b], sizes[b], least[b]
        for i in range(len(scores)):
            if scores[i] > bar:
                kept[size], rows[size] = scores[i], begin + i
                size += 1
                if size == len(kept):
                    bar = _select(kept, rows, size, wanted)
                    size = wanted
        sizes[b], least[b] = size, bar


@njit
def finish(asking: Longs, wanted: int, best: Floats, best_rows: Longs, sizes: Longs) -> None:
    """Leave the best `wanted` of each request."""
    for b in asking:
        if sizes[b] > wanted:
            _select(best[b], best_rows[b], sizes[b], wanted)
            sizes[b] = wanted


@njit
def keep_best_of_few(
    items: Floats,
    match: Floats,
    asking: Longs,
    few_bounds: Longs,
    few_rows: Rows,
    popularity: Floats,
    level: Floats,
    eligible: Flags,
    weight: Floats,
    gain: Floats,
    newcomer: Floats,
    bounds: Longs,
    own_rows: Rows,
    own: Floats,
    out_bounds: Longs,
    out_rows: Rows,
    wanted: int,
    best: Floats,
    best_rows: Longs,
    sizes: Longs,
) -> None:
    """Take the rows that some requests are limited to into their best, at a cost of these rows alone."""
    nothing = np.float32(-np.inf)
    for b in asking:
        inside, out = bounds[b], out_bounds[b]
        heap, rows, size = best[b, :wanted], best_rows[b, :wanted], 0
        for at in range(few_bounds[b], few_bounds[b + 1]):
            row = few_rows[at]
            if row >= len(eligible) or not eligible[row]:
                continue
            while out < out_bounds[b + 1] and out_rows[out] < row:
                out += 1
            if out < out_bounds[b + 1] and out_rows[out] == row:
                continue
            while inside < bounds[b + 1] and own_rows[inside] < row:
                inside += 1
            m = _dot(items[row], match[b])
            score = (gain[b] * m if popularity[row] > 0 else m + newcomer[b]) + weight[b] * level[row]
            if inside < bounds[b + 1] and own_rows[inside] == row:
                score += own[inside]
            if score > (heap[0] if size == len(heap) else nothing):
                size = _keep(heap, rows, size, score, row)
        sizes[b] = size


@njit
def describe(
    items: Floats,
    match: Floats,
    popularity: Floats,
    level: Floats,
    weight: Floats,
    gain: Floats,
    newcomer: Floats,
    bounds: Longs,
    own_rows: Rows,
    own: Floats,
    own_values: Floats,
    popularity_place: int,
    best_rows: Longs,
    sizes: Longs,
    scores: Floats,
    signals: Floats,
    vectors: Floats,
) -> None:
    """Say of each request's candidates, ordered by row, what ranks them; arrays to write into are zero.

    The score is added up anew, so that it does not depend on the batch, nor on how retrieval came by it.

    scores : (B, C); signals : (B, C, S); vectors : (B, C, dim)
    """
    for b in range(len(sizes)):
        inside = bounds[b]
        for c in range(sizes[b]):
            row = best_rows[b, c]
            vectors[b, c] = items[row]
            m = _dot(items[row], match[b])
            score = (gain[b] * m if popularity[row] > 0 else m + newcomer[b]) + weight[b] * level[row]
            signals[b, c, popularity_place] = popularity[row]
            while inside < bounds[b + 1] and own_rows[inside] < row:
                inside += 1
            if inside < bounds[b + 1] and own_rows[inside] == row:
                score += own[inside]
                for s in range(own_values.shape[1]):
                    signals[b, c, s if s < popularity_place else s + 1] = own_values[inside, s]
            scores[b, c] = score
