"""Thompson sampling where no candidate's utility depends on another's, compiled: of whole batches.

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


@contracted
def _choose(
    mean: Floats, deviation: Floats, usable: NDArray[np.bool_], seed: Any, index: NDArray[np.int64]
) -> None:
    """Fill one slate, (n,): each position has the best of what is left under a draw of its own."""
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
        index[position] = best_left(drawn, left, position * n_candidates, key)
        left[index[position]] = False


@contracted
def _count(
    mean: Floats,
    deviation: Floats,
    usable: NDArray[np.bool_],
    slate: NDArray[np.int64],
    seed: Any,
    samples: int,
    wins: NDArray[np.int64],
) -> None:
    """Write, per position of one slate of usable candidates, the samples in which it beats all that remained.

    As in `linear_thompson_kernels`, from the slate's end on.
    """
    half = (samples + 1) // 2
    drawn = np.empty(2 * half, np.float32)
    values = drawn[:samples]
    start = start_of(seed, ESTIMATE)
    key = np.int64(word(start_of(seed, ESTIMATE_TIES), 0) >> np.uint64(32))
    leader = leader_of(mean, usable, slate)
    apart = np.zeros(len(mean), np.float32)
    if leader >= 0:
        for c in range(len(mean)):
            apart[c] = deviation[c] * deviation[c] + deviation[leader] * deviation[leader]
    contenders = find_contenders(mean, apart, usable, slate, leader)
    n_left = len(contenders) - len(slate)
    best = np.full(samples, -np.inf)
    for i in range(len(contenders)):
        c = contenders[i]
        fill_normals(start, c * half, drawn[:half], drawn[half:])
        for s in range(samples):
            values[s] = mean[c] + deviation[c] * values[s]
        if i < n_left:
            raise_best(best, values, c * samples, key)
        else:
            wins[len(contenders) - 1 - i] = count_wins(best, values, c * samples, key)


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
    """Choose slates, or take those in `index`, and estimate how probable each position is.

    Parameters
    ----------
    mean, deviation, usable : (B, C) float32, of each candidate's utility; (B, C) bool
    the others : as of `linear_thompson_kernels.linear_thompson`
    """
    n, n_candidates = mean.shape
    places, wins = np.empty(index.shape[1], np.int64), np.empty(index.shape[1], np.int64)
    extra = 1 if choosing else 0
    for b in range(n):
        if choosing:
            _choose(mean[b], deviation[b], usable[b], seeds[b], index[b, : min(k[b], usable[b].sum())])
        shown = shown_places(index[b], usable[b], places)
        if shown:
            slate = index[b][places[:shown]]
            _count(mean[b], deviation[b], usable[b], slate, seeds[b], samples, wins)
            for i in range(shown):
                propensities[b, places[i]] = (wins[i] + extra) / (samples + extra)
