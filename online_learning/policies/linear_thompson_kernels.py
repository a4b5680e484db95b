"""Thompson sampling of linear weights, compiled: of whole batches, one request after another.

A request's numbers depend on its own row and seed alone, never on the batch.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.compiled import contracted
from online_learning.policies.argmax_kernels import (
    CHOICE,
    CHOICE_TIES,
    ESTIMATE,
    ESTIMATE_TIES,
    Floats,
    best_left,
    count_wins,
    find_contenders,
    leader_of,
    raise_best,
    shown_places,
)
from online_learning.sampling_kernels import fill_normals, start_of, word
from online_learning.statistics.logistic import MIN_CHANCE

# Candidates whose utilities are sampled together: each random number is then loaded once for all of them.
_ROWS = 4


@contracted
def _add_product(row: Floats, matrix: Floats, out: Floats) -> None:
    """Add row @ matrix to `out`: (F,), (F, n), (n,)."""
    dim = len(row)
    whole = dim - dim % 4
    for f in range(0, whole, 4):
        a, b, c, d = row[f], row[f + 1], row[f + 2], row[f + 3]
        one, two, three, four = matrix[f], matrix[f + 1], matrix[f + 2], matrix[f + 3]
        for i in range(len(out)):
            out[i] += a * one[i] + b * two[i] + c * three[i] + d * four[i]
    for f in range(whole, dim):
        a, one = row[f], matrix[f]
        for i in range(len(out)):
            out[i] += a * one[i]


@contracted
def _add_products(rows: Floats, matrix: Floats, out: Floats) -> None:
    """Add rows @ matrix to `out`, four rows together: (4, F), (F, n), (4, n)."""
    dim = rows.shape[1]
    whole = dim - dim % 4
    for f in range(0, whole, 4):
        w, x, y, z = matrix[f], matrix[f + 1], matrix[f + 2], matrix[f + 3]
        a, b, c, d = out[0], out[1], out[2], out[3]
        a0, a1, a2, a3 = rows[0, f], rows[0, f + 1], rows[0, f + 2], rows[0, f + 3]
        b0, b1, b2, b3 = rows[1, f], rows[1, f + 1], rows[1, f + 2], rows[1, f + 3]
        c0, c1, c2, c3 = rows[2, f], rows[2, f + 1], rows[2, f + 2], rows[2, f + 3]
        d0, d1, d2, d3 = rows[3, f], rows[3, f + 1], rows[3, f + 2], rows[3, f + 3]
        for i in range(len(a)):
            a[i] += a0 * w[i] + a1 * x[i] + a2 * y[i] + a3 * z[i]
            b[i] += b0 * w[i] + b1 * x[i] + b2 * y[i] + b3 * z[i]
            c[i] += c0 * w[i] + c1 * x[i] + c2 * y[i] + c3 * z[i]
            d[i] += d0 * w[i] + d1 * x[i] + d2 * y[i] + d3 * z[i]
    for r in range(_ROWS):
        _add_product(rows[r, whole:], matrix[whole:], out[r])


@contracted
def _utilities(
    features: Floats,
    valid: NDArray[np.bool_],
    boosts: Floats,
    mean: Floats,
    turned: Floats,
    known: Floats,
    columns: Floats,
    utility: Floats,
    spread: Floats,
    usable: NDArray[np.bool_],
) -> None:
    """Write one request's utilities under the mean weights, and how they move with z, the normals.

    Under weights mean + root @ z the utility of a candidate is utility + z @ spread.

    Parameters
    ----------
    features, valid, boosts : (C, F), (C,), (C,)
    mean, turned : (F,) and (F, F), root transposed
    known : (F,) of weights that give a prior probability, at least `MIN_CHANCE` and at most 1 less it, whose
        log-odds are added; or none of them, (0,)
    columns : (F, C), scratch
    utility, spread, usable : (C,), (F, C), (C,), written; what is not usable has utility and spread 0
    """
    dim, n = columns.shape
    for f in range(dim):
        for c in range(n):
            columns[f, c] = features[c, f]
    utility[:] = 0.0
    _add_product(mean, columns, utility)
    for c in range(n):
        usable[c] = valid[c] and np.isfinite(utility[c])
        if not usable[c]:  # a feature that is not finite would spread over all sums
            utility[c] = 0.0
            columns[:, c] = 0.0
    if len(known):
        chance = np.zeros(n, np.float32)
        _add_product(known, columns, chance)
        for c in range(n):
            within = min(max(np.float64(chance[c]), MIN_CHANCE), 1.0 - MIN_CHANCE)
            utility[c] += np.float32(np.log(within) - np.log1p(-within))
    for c in range(n):
        utility[c] += boosts[c] if usable[c] else np.float32(0.0)
    spread[:] = 0.0
    whole = dim - dim % _ROWS
    for f in range(0, whole, _ROWS):
        _add_products(turned[f : f + _ROWS], columns, spread[f : f + _ROWS])
    for f in range(whole, dim):
        _add_product(turned[f], columns, spread[f])


@contracted
def _choose(
    utility: Floats, spread: Floats, usable: NDArray[np.bool_], seed: Any, index: NDArray[np.int64]
) -> None:
    """Fill one slate, (n,): each position has the best of what is left under weights of its own."""
    dim, n_candidates = spread.shape
    start = start_of(seed, CHOICE)
    key = np.int64(word(start_of(seed, CHOICE_TIES), 0) >> np.uint64(32))
    left = usable.copy()
    normals = np.empty((2, dim), np.float32)
    drawn = np.empty((2, n_candidates), np.float32)
    for position in range(len(index)):
        at = position % 2
        if at == 0:
            fill_normals(start, position // 2 * dim, normals[0], normals[1])
        drawn[at] = utility
        _add_product(normals[at], spread, drawn[at])
        index[position] = best_left(drawn[at], left, position * n_candidates, key)
        left[index[position]] = False


@contracted
def _count(
    utility: Floats,
    spread: Floats,
    usable: NDArray[np.bool_],
    slate: NDArray[np.int64],
    seed: Any,
    normals: Floats,
    wins: NDArray[np.int64],
) -> None:
    """Write, per position of one slate of usable candidates, the samples in which it beats all that remained.

    What remains at position j is what the slate leaves out plus its positions j, j + 1, ... So one running
    maximum per sample, taken over the candidates left out and then over the slate from its end, serves all
    positions.

    Parameters
    ----------
    normals : (F or F + 1, S), even, scratch
    slate, wins : (n,)
    """
    dim, n_samples = spread.shape[0], normals.shape[1]
    start = start_of(seed, ESTIMATE)
    key = np.int64(word(start_of(seed, ESTIMATE_TIES), 0) >> np.uint64(32))
    for pair in range(len(normals) // 2):
        fill_normals(start, pair * n_samples, normals[2 * pair], normals[2 * pair + 1])
    leader = leader_of(utility, usable, slate)
    apart = np.zeros(spread.shape[1], np.float32)
    if leader >= 0:
        for f in range(dim):
            row, middle = spread[f], spread[f, leader]
            for c in range(len(apart)):
                apart[c] += (row[c] - middle) * (row[c] - middle)
    contenders = find_contenders(utility, apart, usable, slate, leader)
    n_left = len(contenders) - len(slate)
    best = np.full(n_samples, -np.inf)  # float64: in float32 the noise would round to few values, and tie
    rows = np.zeros((_ROWS, dim), np.float32)
    values = np.empty((_ROWS, n_samples), np.float32)
    for first in range(0, len(contenders), _ROWS):
        here = contenders[first : first + _ROWS]
        for r in range(len(here)):
            for f in range(dim):
                rows[r, f] = spread[f, here[r]]
            values[r] = utility[here[r]]
        _add_products(rows, normals, values)
        for r in range(len(here)):
            if first + r < n_left:
                raise_best(best, values[r], here[r] * n_samples, key)
            else:
                won = count_wins(best, values[r], here[r] * n_samples, key)
                wins[len(contenders) - 1 - first - r] = won


@contracted
def linear_thompson(
    features: Floats,
    valid: NDArray[np.bool_],
    boosts: Floats,
    mean: Floats,
    turned: Floats,
    known: Floats,
    k: NDArray[np.int64],
    seeds: NDArray[np.uint64],
    samples: int,
    index: NDArray[np.int64],
    propensities: Floats,
    choosing: bool,
) -> None:
    """Choose slates, or take those in `index`, and estimate how probable each position is.

    Parameters
    ----------
    features, valid, boosts : (B, C, F) float32, (B, C) bool, (B, C) float32
    mean, turned, known : as of `_utilities`
    k, seeds : (B,) int64, lengths of slates to choose; (B,) uint64
    samples : draws a request
    index : (B, K) int64, written when `choosing`, else read; -1 where there is nothing
    propensities : (B, K) float32, written: wins / samples of slates that are given, (wins + 1) /
        (samples + 1) of those chosen, 0 where there is nothing or what cannot be chosen
    """
    n, n_candidates, dim = features.shape
    columns = np.empty((dim, n_candidates), np.float32)
    spread = np.empty((dim, n_candidates), np.float32)
    utility, usable = np.empty(n_candidates, np.float32), np.empty(n_candidates, np.bool_)
    normals = np.empty((dim + dim % 2, samples), np.float32)
    places, wins = np.empty(index.shape[1], np.int64), np.empty(index.shape[1], np.int64)
    extra = 1 if choosing else 0
    for b in range(n):
        _utilities(features[b], valid[b], boosts[b], mean, turned, known, columns, utility, spread, usable)
        if choosing:
            _choose(utility, spread, usable, seeds[b], index[b, : min(k[b], usable.sum())])
        shown = shown_places(index[b], usable, places)
        if shown:
            slate = index[b][places[:shown]]
            _count(utility, spread, usable, slate, seeds[b], normals, wins)
            for i in range(shown):
                propensities[b, places[i]] = (wins[i] + extra) / (samples + extra)
