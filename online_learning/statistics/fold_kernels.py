"""Compiled sums over observations, one row after another, so that batching does not show in the bits.

Common parameters: `rows` (n, F) float64; `weights` (n,) float64; `times` and `exponents` (n,) int64 from
`online_learning.statistics.decay`; `clock` (2,) int64, the sum's exponent and latest time, changed in
place. A matrix of sums is kept as its lower triangle, row by row ("packed", F (F + 1) / 2 float64).
"""

import math

import numpy as np
from numpy.typing import NDArray

from online_learning.compiled import compiled

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Of a logistic row's curvature: a row whose outcome was thought certain must not weigh nothing.
MIN_CURVATURE = 1e-3


@compiled
def _weight(
    weight: float, time: int, exponent: int, clock: Integers, packed: Floats, moment: Floats
) -> float:
    """Return the weight relative to the sum, whose exponent is raised first where it has to be."""
    if exponent > clock[0]:
        scale = math.ldexp(1.0, max(clock[0] - exponent, -1100))
        for i in range(len(packed)):
            packed[i] *= scale
        for i in range(len(moment)):
            moment[i] *= scale
        clock[0] = exponent
    clock[1] = max(clock[1], time)
    return math.ldexp(weight, max(exponent - clock[0], -1100))


@compiled
def _norm(row: Floats) -> float:
    norm = 0.0
    for a in range(len(row)):
        norm += row[a] * row[a]
    return norm


@compiled
def _add_outer(row: Floats, weight: float, packed: Floats) -> None:
    at = 0
    for a in range(len(row)):
        value = weight * row[a]
        for b in range(a + 1):
            packed[at + b] += value * row[b]
        at += a + 1


@compiled
def add_outer(
    rows: Floats,
    weights: Floats,
    times: Integers,
    exponents: Integers,
    slots: Integers,
    packed: Floats,
    moment: Floats,
    clocks: Integers,
    counts: Integers,
) -> int:
    """Add weight * outer(x, x) of every finite row to the sums of its slot; return how many were used.

    Parameters
    ----------
    slots : (n,) int64, which of the A sums a row goes to
    packed, moment, clocks : (A, F (F + 1) / 2), (A, F), (A, 2)
    counts : (A,) int64, rows used, changed in place
    """
    used = 0
    for i in range(len(rows)):
        if not np.isfinite(_norm(rows[i]) * weights[i]):
            continue
        slot = slots[i]
        weight = _weight(weights[i], times[i], exponents[i], clocks[slot], packed[slot], moment[slot])
        _add_outer(rows[i], weight, packed[slot])
        counts[slot] += 1
        used += 1
    return used


@compiled
def add_moment(
    rows: Floats,
    rewards: Floats,
    weights: Floats,
    times: Integers,
    exponents: Integers,
    slots: Integers,
    packed: Floats,
    moment: Floats,
    clocks: Integers,
    counts: Integers,
) -> int:
    """Add weight * reward * x of every finite row to the moment of its slot; parameters as `add_outer`."""
    used = 0
    for i in range(len(rows)):
        if not np.isfinite(_norm(rows[i]) * weights[i] * rewards[i]) or not np.isfinite(_norm(rows[i])):
            continue
        slot = slots[i]
        weight = _weight(weights[i], times[i], exponents[i], clocks[slot], packed[slot], moment[slot])
        for a in range(rows.shape[1]):
            moment[slot, a] += weight * rewards[i] * rows[i, a]
        counts[slot] += 1
        used += 1
    return used


@compiled
def add_logistic(
    rows: Floats,
    prior: Floats,
    least: float,
    weights: Floats,
    times: Integers,
    exponents: Integers,
    reference: Floats,
    packed: Floats,
    moment: Floats,
    clock: Integers,
) -> int:
    """Add rows of outcome 0 to the tangent quadratic of a logistic likelihood; return how many were used.

    With s = x @ reference, p = sigmoid(log-odds of x @ prior + s) and c = p (1 - p), a row adds
    c outer(x, x) to the matrix and (c s - p) x to the moment; an outcome 1 adds x more, whatever the
    reference.

    Parameters
    ----------
    prior : (F,) float64; x @ prior is a probability, brought into [least, 1 - least]
    reference : (F,) float64, where the likelihood is developed
    """
    used = 0
    for i in range(len(rows)):
        if not np.isfinite(_norm(rows[i]) * weights[i]):
            continue
        weight = _weight(weights[i], times[i], exponents[i], clock, packed, moment)
        at, before = 0.0, 0.0
        for a in range(rows.shape[1]):
            at += rows[i, a] * reference[a]
            before += rows[i, a] * prior[a]
        before = max(min(before, 1.0 - least), least)
        odds = max(min(math.log(before) - math.log(1.0 - before) + at, 30.0), -30.0)
        chance = 1.0 / (1.0 + math.exp(-odds))
        curvature = max(chance * (1.0 - chance), MIN_CURVATURE)
        _add_outer(rows[i], weight * curvature, packed)
        for a in range(rows.shape[1]):
            moment[a] += weight * (curvature * at - chance) * rows[i, a]
        used += 1
    return used
