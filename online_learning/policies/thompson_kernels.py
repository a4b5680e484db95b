"""Thompson sampling, compiled: of whole batches, one request after another.

A request's numbers depend on its own row and seed alone, never on the batch.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.compiled import compiled, contracted
from online_learning.sampling_kernels import fill_normals, mixed_32, start_of, word
from online_learning.statistics.logistic import MIN_CHANCE

Floats = NDArray[np.float32]

# Streams of random numbers of one request: what chooses the slate is independent of what estimates it.
CHOICE, ESTIMATE, ESTIMATE_TIES, CHOICE_TIES = 1, 2, 3, 4

# Candidates of equal features have equal utility under any weights. Noise far below any difference that
# matters, and above the rounding of float32 sums of order 1, makes the choice among them uniform.
TIE_NOISE = 1e-5
_TIE_STEP = TIE_NOISE * 2.0**-24

# A candidate that is not in the slate is left out of the samples when the best mean left out beats it by
# more than this many standard deviations of their difference: it wins a sample with a probability below
# 1e-9, so that a propensity is off by less than 1e-9 times the candidates.
REACH = np.float32(6.0)

# Candidates whose utilities are sampled together: each random number is then loaded once for all of them.
_ROWS = 4

# Samples looked at together: few of them are won by a candidate, and where none can be, no noise is needed.
_STRIDE = 32


@compiled
def _tie_bits(counter: int, key: Any) -> float:
    # 24 random bits as a number.
    bits = mixed_32(np.uint32(counter) * np.uint32(0x9E3779B1) + np.uint32(key))
    return np.float64(np.uint32(bits) >> np.uint32(8))


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
        index[position] = _best_left(drawn[at], left, position * n_candidates, key)
        left[index[position]] = False


@compiled
def _best_left(values: Floats, left: NDArray[np.bool_], first: int, key: Any) -> int:
    chosen, best = -1, -np.inf
    for c in range(len(values)):
        if left[c]:
            value = values[c] + _TIE_STEP * _tie_bits(first + c, key)
            if value > best or chosen < 0:
                chosen, best = c, value
    return chosen


@compiled
def _leader(utility: Floats, usable: NDArray[np.bool_], slate: NDArray[np.int64]) -> int:
    """Return the candidate of highest mean utility that the slate leaves out, -1 if it leaves out none."""
    leader = -1
    for c in range(len(utility)):
        if usable[c] and (leader < 0 or utility[c] > utility[leader]) and not np.any(slate == c):
            leader = c
    return leader


@contracted
def _contenders(
    utility: Floats, apart: Floats, usable: NDArray[np.bool_], slate: NDArray[np.int64], leader: int
) -> NDArray[np.int64]:
    """Return the candidates whose samples are needed: first those left out that may win, then the slate's.

    The slate's come from its last position to its first. `REACH` says who may win.

    Parameters
    ----------
    apart : (C,) float32, variance of the difference from the leader's utility
    """
    left_out = usable.copy()
    for candidate in slate:
        left_out[candidate] = False
    found = np.empty(len(utility) + len(slate), np.int64)
    n = 0
    for c in range(len(utility)):
        if left_out[c]:
            behind = utility[leader] - utility[c] - np.float32(TIE_NOISE)
            if c == leader or not behind > REACH * np.sqrt(apart[c]):
                found[n] = c
                n += 1
    for candidate in slate[::-1]:
        found[n] = candidate
        n += 1
    return found[:n]


@contracted
def _raise(best: NDArray[np.float64], values: Floats, first: int, key: Any) -> None:
    for begin in range(0, len(best), _STRIDE):
        highest, drawn = best[begin : begin + _STRIDE], values[begin : begin + _STRIDE]
        above = 0
        for s in range(len(highest)):
            above += drawn[s] + TIE_NOISE >= highest[s]
        if above:
            for s in range(len(highest)):
                noise = _TIE_STEP * _tie_bits(first + begin + s, key)
                highest[s] = max(highest[s], drawn[s] + noise)


@contracted
def _beat(best: NDArray[np.float64], values: Floats, first: int, key: Any) -> int:
    wins = 0
    for s in range(len(best)):
        value = values[s] + _TIE_STEP * _tie_bits(first + s, key)
        wins += value > best[s]
        best[s] = max(best[s], value)
    return wins


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
    leader = _leader(utility, usable, slate)
    apart = np.zeros(spread.shape[1], np.float32)
    if leader >= 0:
        for f in range(dim):
            row, middle = spread[f], spread[f, leader]
            for c in range(len(apart)):
                apart[c] += (row[c] - middle) * (row[c] - middle)
    contenders = _contenders(utility, apart, usable, slate, leader)
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
                _raise(best, values[r], here[r] * n_samples, key)
            else:
                won = _beat(best, values[r], here[r] * n_samples, key)
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
        shown = _shown(index[b], usable, places)
        if shown:
            slate = index[b][places[:shown]]
            _count(utility, spread, usable, slate, seeds[b], normals, wins)
            for i in range(shown):
                propensities[b, places[i]] = (wins[i] + extra) / (samples + extra)


@compiled
def _shown(slate: NDArray[np.int64], usable: NDArray[np.bool_], places: NDArray[np.int64]) -> int:
    """Write the positions of a slate that have a usable candidate, and return how many there are."""
    shown = 0
    for position in range(len(slate)):
        if slate[position] >= 0 and usable[slate[position]]:
            places[shown] = position
            shown += 1
    return shown


@contracted
def _choose_alone(
    mean: Floats, deviation: Floats, usable: NDArray[np.bool_], seed: Any, index: NDArray[np.int64]
) -> None:
    """Fill one slate, (n,), where no candidate's utility depends on another's."""
    n_candidates = len(mean)
    start = start_of(seed, CHOICE)
    key = np.int64(word(start_of(seed, CHOICE_TIES), 0) >> np.uint64(32))
    left = usable.copy()
    normals = np.empty((2, n_candidates), np.float32)
    for position in range(len(index)):
        at = position % 2
        if at == 0:
            fill_normals(start, position // 2 * n_candidates, normals[0], normals[1])
        drawn = mean + deviation * normals[at]
        index[position] = _best_left(drawn, left, position * n_candidates, key)
        left[index[position]] = False


@contracted
def _count_alone(
    mean: Floats,
    deviation: Floats,
    usable: NDArray[np.bool_],
    slate: NDArray[np.int64],
    seed: Any,
    samples: int,
    wins: NDArray[np.int64],
) -> None:
    """As `_count`, where no candidate's utility depends on another's."""
    half = (samples + 1) // 2
    drawn = np.empty(2 * half, np.float32)
    values = drawn[:samples]
    start = start_of(seed, ESTIMATE)
    key = np.int64(word(start_of(seed, ESTIMATE_TIES), 0) >> np.uint64(32))
    leader = _leader(mean, usable, slate)
    apart = np.zeros(len(mean), np.float32)
    if leader >= 0:
        for c in range(len(mean)):
            apart[c] = deviation[c] * deviation[c] + deviation[leader] * deviation[leader]
    contenders = _contenders(mean, apart, usable, slate, leader)
    n_left = len(contenders) - len(slate)
    best = np.full(samples, -np.inf)
    for i in range(len(contenders)):
        c = contenders[i]
        fill_normals(start, c * half, drawn[:half], drawn[half:])
        for s in range(samples):
            values[s] = mean[c] + deviation[c] * values[s]
        if i < n_left:
            _raise(best, values, c * samples, key)
        else:
            wins[len(contenders) - 1 - i] = _beat(best, values, c * samples, key)


@contracted
def arm_thompson(
    mean: Floats,
    deviation: Floats,
    usable: NDArray[np.bool_],
    k: NDArray[np.int64],
    seeds: NDArray[np.uint64],
    samples: int,
    index: NDArray[np.int64],
    propensities: Floats,
    choosing: bool,
) -> None:
    """Choose or take slates, and estimate, where no candidate's utility depends on another's.

    Parameters
    ----------
    mean, deviation, usable : (B, C) float32, of each candidate's utility; (B, C) bool
    the others : as of `linear_thompson`
    """
    n, n_candidates = mean.shape
    places, wins = np.empty(index.shape[1], np.int64), np.empty(index.shape[1], np.int64)
    extra = 1 if choosing else 0
    for b in range(n):
        if choosing:
            _choose_alone(mean[b], deviation[b], usable[b], seeds[b], index[b, : min(k[b], usable[b].sum())])
        shown = _shown(index[b], usable[b], places)
        if shown:
            slate = index[b][places[:shown]]
            _count_alone(mean[b], deviation[b], usable[b], slate, seeds[b], samples, wins)
            for i in range(shown):
                propensities[b, places[i]] = (wins[i] + extra) / (samples + extra)
