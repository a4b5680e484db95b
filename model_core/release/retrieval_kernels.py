"""Compiled loops of retrieval: scores of all items of a request, its best C, and what is said of these.

An item i of popularity p scores for request b, with m = the inner product of their vectors,

    weight[b] * level[i] + (gain[b] * m  if p > 0 else  m + newcomer[b]) + what is the request's own of i.

Products may only come near m: then a score is added up if it could beat the best so far with the most that
its product may be off by. Of equal scores the first row is the best. Rows come in ascending order and stay in
it, so one that ties with the worst of the best never replaces it, and no order of blocks shows. Whatever
beats the best so far is put into a buffer, which is cut down to the best when it is full.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from model_core.kernels import inner, log_of, prefetch

Floats = NDArray[np.float32]
Longs = NDArray[np.int64]
Rows = NDArray[np.int32]
Flags = NDArray[np.bool_]

STRIDE = 64  # scores looked at together, for few of them beat the best so far
AHEAD, LINE = 8, 64  # vectors that memory is asked for before they are read, and bytes that it brings at once

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
def own_parts(bounds: Longs, values: Floats, weights: Floats, scales: Floats, out: Floats) -> None:
    """Write what signals of an item's own add to its score, over what they add where they are 0.

    values : (M, S) for rows of requests that `bounds` parts; weights : (B, S); scales : (S,); out : (M,)
    """
    column = np.empty(len(out), np.float32)
    out[:] = np.float32(0)
    for s in range(len(scales)):
        floor = log_of(scales[s])
        for k in range(len(out)):
            column[k] = scales[s] + values[k, s]
        for b in range(len(bounds) - 1):
            weight, mine, parts = (
                weights[b, s],
                column[bounds[b] : bounds[b + 1]],
                out[bounds[b] : bounds[b + 1]],
            )
            for k in range(len(parts)):
                parts[k] += weight * (log_of(mine[k]) - floor)


@njit
def _worst_of_best(scores: Floats, wanted: int) -> Any:  # np.float32
    """Return the score that `wanted` scores, and no more but for equal ones, reach.

    By halves of all that may be, for no branch can foretell a score: floats have the order of whole numbers
    when the bits of negative ones, but for the sign, are turned.
    """
    keys = scores.view(np.int32).copy()
    for i in range(len(keys)):
        keys[i] ^= (keys[i] >> np.int32(31)) & np.int32(0x7FFFFFFF)
    low, high = np.int64(keys.min()), np.int64(keys.max())
    while low < high:
        middle, reach = (low + high + 1) >> 1, np.int32(0)
        for i in range(len(keys)):
            reach += np.int32(keys[i] >= np.int32(middle))
        if reach >= wanted:
            low = middle
        else:
            high = middle - 1
    keys[0] = np.int32(low)
    keys[0] ^= (keys[0] >> np.int32(31)) & np.int32(0x7FFFFFFF)
    return keys.view(np.float32)[0]


@njit
def _cut(scores: Floats, rows: Longs, wanted: int) -> Any:  # np.float32
    """Leave the best `wanted` at the front, in their order, and return the lowest score of these."""
    worst = _worst_of_best(scores, wanted)
    equal = wanted
    for i in range(len(scores)):
        equal -= scores[i] > worst
    n = 0
    for i in range(len(scores)):
        score, ties = scores[i], (scores[i] == worst) & (equal > 0)
        scores[n], rows[n] = score, rows[i]
        n += (score > worst) | ties
        equal -= ties
    return worst


@njit_sum
def _score(m: Any, popularity: Any, level: Any, weight: Any, gain: Any, newcomer: Any) -> Any:
    return (gain * m if popularity > 0 else m + newcomer) + weight * level


@njit
def keep_best(
    products: Floats,
    of_norm: Floats,
    of_error: Floats,
    norms: Floats,
    errors: Floats,
    items: Floats,
    match: Floats,
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

    products : (len(asking), n), near the inner products with rows from `begin` on; overwritten
    of_norm, of_error : (len(asking),) and norms, errors : (N,), see `near_items.Near`; empty = not off
    match : (B, dim) and items : (N, dim), whose inner products count
    asking : the requests, of those that all else is of
    cursors : (B, 2), where the lists of own parts and of excluded rows have been read up to
    best, best_rows : (B, at least `wanted` + `STRIDE`), of which the first `sizes` may be the best
    least : (B,), what a score must beat
    """
    nothing = np.float32(-np.inf)
    end = begin + products.shape[1]
    popularity, level, eligible = popularity[begin:end], level[begin:end], eligible[begin:end]
    off = len(of_norm) > 0
    if off:
        norms, errors = norms[begin:end], errors[begin:end]
    for at in range(len(asking)):
        b = asking[at]
        scores = products[at]
        w, g, lift, steep = weight[b], gain[b], newcomer[b], abs(gain[b])
        if off:
            by_norm, by_error = of_norm[at], of_error[at]
            for i in range(len(scores)):
                m, most = scores[i], by_norm * norms[i] + by_error * errors[i]
                m = g * m + steep * most if popularity[i] > 0 else m + most + lift
                scores[i] = m + w * level[i] if eligible[i] else nothing
        else:
            for i in range(len(scores)):
                score = _score(scores[i], popularity[i], level[i], w, g, lift)
                scores[i] = score if eligible[i] else nothing
        inside = k = cursors[b, 0]
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
        for first in range(0, len(scores), STRIDE):
            stride = scores[first : first + STRIDE]
            if not _any_above(stride, bar):
                continue
            if size + STRIDE > len(kept):
                bar = _cut(kept[:size], rows[:size], wanted)
                size = wanted
            for i in range(len(stride)):
                here, row = first + i, begin + first + i
                if not off:
                    kept[size], rows[size] = stride[i], row
                    size += stride[i] > bar
                    continue
                if not stride[i] > bar:
                    continue
                m = _dot(items[row], match[b])
                score = _score(m, popularity[here], level[here], w, g, lift)
                while inside < bounds[b + 1] and own_rows[inside] < row:
                    inside += 1
                if inside < bounds[b + 1] and own_rows[inside] == row:
                    score += own[inside]
                kept[size], rows[size] = score, row
                size += score > bar
        sizes[b], least[b] = size, bar


@njit
def _any_above(scores: Floats, bar: float) -> bool:
    above = 0  # without an exit, so that the comparisons become vector instructions
    for i in range(len(scores)):
        above += scores[i] > bar
    return above > 0


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
    for b in asking:
        inside, out = bounds[b], out_bounds[b]
        kept, rows, size, bar = best[b], best_rows[b], 0, np.float32(-np.inf)
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
            score = _score(m, popularity[row], level[row], weight[b], gain[b], newcomer[b])
            if inside < bounds[b + 1] and own_rows[inside] == row:
                score += own[inside]
            if score > bar:
                kept[size], rows[size] = score, row
                size += 1
                if size == len(kept):
                    bar = _cut(kept, rows, wanted)
                    size = wanted
        sizes[b] = size


@njit
def add_wanted(bounds: Longs, rows: Rows, most: int, best: Floats, best_rows: Longs, sizes: Longs) -> int:
    """Cut every request to its best `most`, and add to these what it wants; return the most that are added.

    bounds, rows : see `SparseRows`, of items that are wanted
    best, best_rows : (B, at least `most` and all that a request wants); what is added has no score
    """
    most_added = 0
    for b in range(len(sizes)):
        if sizes[b] > most:
            _cut(best[b, : sizes[b]], best_rows[b, : sizes[b]], most)
            sizes[b] = most
        scores, kept, begin, end = best[b], best_rows[b], bounds[b], bounds[b + 1]
        added, i = 0, 0
        for j in range(begin, end):
            while i < sizes[b] and kept[i] < rows[j]:
                i += 1
            added += not (i < sizes[b] and kept[i] == rows[j])
        i, j, at = sizes[b] - 1, end - 1, sizes[b] + added - 1
        while j >= begin and at > i:
            if i >= 0 and kept[i] >= rows[j]:
                j -= kept[i] == rows[j]
                scores[at], kept[at] = scores[i], kept[i]
                i -= 1
            else:
                scores[at], kept[at] = np.float32(0), rows[j]
                j -= 1
            at -= 1
        sizes[b] += added
        most_added = max(most_added, added)
    return most_added


@inner
def _ask_for(items: Floats, row: int) -> None:
    """Let memory bring the vector of an item."""
    width = items.shape[1] * items.itemsize
    for byte in range(0, width, LINE):
        prefetch(items, np.int64(row) * width + byte)


@njit
def describe(
    items: Floats,
    match: Floats,
    popularity: Floats,
    level: Floats,
    weight: Floats,
    gain: Floats,
    newcomer: Floats,
    always: Floats,
    bounds: Longs,
    own_rows: Rows,
    own: Floats,
    own_values: Floats,
    popularity_place: int,
    best: Floats,
    best_rows: Longs,
    sizes: Longs,
    rows: Longs,
    valid: Flags,
    scores: Floats,
    signals: Floats,
    vectors: Floats,
) -> None:
    """Say of each request's best C, by row, what ranks them; what is not valid is 0.

    The score is added up anew, so that it does not depend on the batch, nor on how retrieval came by it.

    best, best_rows, sizes : of `keep_best`
    rows, valid, scores : (B, C); signals : (B, C, S); vectors : (B, C, dim); all written
    """
    wanted = rows.shape[1]
    for b in range(len(sizes)):
        size = sizes[b]
        if size > wanted:
            _cut(best[b, :size], best_rows[b, :size], wanted)
            size = wanted
        inside = bounds[b]
        signals[b] = 0
        for c in range(min(size, AHEAD)):
            _ask_for(items, best_rows[b, c])
        for c in range(size):
            if c + AHEAD < size:
                _ask_for(items, best_rows[b, c + AHEAD])
            row = best_rows[b, c]
            rows[b, c], valid[b, c] = row, True
            vectors[b, c] = items[row]
            m = _dot(items[row], match[b])
            score = _score(m, popularity[row], level[row], weight[b], gain[b], newcomer[b])
            signals[b, c, popularity_place] = popularity[row]
            while inside < bounds[b + 1] and own_rows[inside] < row:
                inside += 1
            if inside < bounds[b + 1] and own_rows[inside] == row:
                score += own[inside]
                for s in range(own_values.shape[1]):
                    signals[b, c, s if s < popularity_place else s + 1] = own_values[inside, s]
            scores[b, c] = score + always[b]
        rows[b, size:], valid[b, size:], scores[b, size:], vectors[b, size:] = 0, False, 0, 0


@njit
def best_first(
    rows: Longs, valid: Flags, scores: Floats, logits: Floats, features: Floats,
    out_rows: Longs, out_valid: Flags, out_scores: Floats, out_logits: Floats, out_features: Floats,
) -> None:  # fmt: skip
    """Write candidates, which come by row, in the order of falling score, what is not valid last."""
    keys = np.empty(scores.shape[1], np.float32)
    for b in range(len(scores)):
        for c in range(len(keys)):
            keys[c] = -scores[b, c] if valid[b, c] else np.float32(np.inf)
        order = np.argsort(keys, kind="mergesort")
        for c in range(len(order)):
            at = order[c]
            out_rows[b, c], out_valid[b, c], out_scores[b, c] = rows[b, at], valid[b, at], scores[b, at]
            for k in range(logits.shape[2]):
                out_logits[b, c, k] = logits[b, at, k]
            for f in range(features.shape[2]):
                out_features[b, c, f] = features[b, at, f]
