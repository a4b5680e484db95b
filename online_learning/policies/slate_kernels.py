"""Softmax under the rules of a slate, compiled: whole batches, one request after another."""

import math

import numpy as np
from numpy.typing import NDArray

from online_learning.compiled import compiled

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@compiled
def _take(
    chosen: int,
    left: Bools,
    likeness: Floats,
    of_group: NDArray[np.int64],
    vectors: NDArray[np.float32],
    groups: NDArray[np.int32],
) -> None:
    """Put a candidate at the next position: it is gone, and what is like it or of its groups is told."""
    left[chosen] = False
    for c in range(len(vectors)):
        alike = np.float32(0.0)
        for v in range(vectors.shape[1]):
            alike += vectors[c, v] * vectors[chosen, v]
        if np.isfinite(alike):
            likeness[c] = max(likeness[c], np.float64(alike))
    for c in range(len(groups)):
        for g in range(groups.shape[1]):
            for mine in groups[chosen]:
                if mine >= 0 and groups[c, g] == mine:
                    of_group[c, g] += 1


@compiled
def _open(left: Bools, of_group: NDArray[np.int64], cap: int, allowed: Bools) -> None:
    """Write which candidates the next position may have; where the cap leaves none, it does not hold."""
    some = False
    for c in range(len(left)):
        allowed[c] = left[c]
        if c < len(of_group):
            for g in range(of_group.shape[1]):
                allowed[c] = allowed[c] and of_group[c, g] < cap
        some = some or allowed[c]
    if not some:
        allowed[:] = left


@compiled
def _softmax(logits: Floats, of: Bools, chances: Floats) -> bool:
    """Write probabilities, 0 outside `of`; return whether there is anything to choose from."""
    top, total = -np.inf, 0.0
    for c in range(len(logits)):
        if of[c]:
            top = max(top, logits[c])
    shift = top if np.isfinite(top) else 0.0
    for c in range(len(logits)):
        chances[c] = math.exp(logits[c] - shift) if of[c] else 0.0
        total += chances[c]
    if total > 0.0:
        for c in range(len(logits)):
            chances[c] /= total
    return bool(np.any(of))


@compiled
def _draw(chances: Floats, where: float) -> int:
    """Return a column drawn by its chance; where : uniform in (0, 1)."""
    total = 0.0
    for chance in chances:
        total += chance
    # Rounding must not lead past the last column that has a chance.
    below = min(where * total, np.nextafter(total, 0.0))
    total = 0.0
    for c in range(len(chances)):
        total += chances[c]
        if total > below:
            return c
    return 0


@compiled
def diverse_softmax(
    utility: Floats,
    usable: Bools,
    placed: Bools,
    vectors: NDArray[np.float32],
    groups: NDArray[np.int32],
    fresh: Bools,
    rules: tuple[float, float, int, float],
    lengths: NDArray[np.int64],
    for_fresh: Floats,
    which: Floats,
    index: NDArray[np.int64],
    propensities: NDArray[np.float32],
    choosing: bool,
) -> None:
    """Choose slates, or take those in `index`, and tell how probable each position is.

    Parameters
    ----------
    utility, usable : (B, C) float64 and bool
    placed : (B, C) bool, what stands above the slates already
    vectors, groups, fresh : as of `Candidates`, or with no candidates (B, 0, ...) where a rule is not applied
    rules : temperature, diversity, cap, fresh_share
    lengths : (B,) int64, of slates to choose
    for_fresh, which : (B, K) float64, uniform: whether a position is kept for the fresh, and what it gets
    index, propensities : (B, K) int64 and float32; index is written when `choosing`, else read
    """
    temperature, diversity, cap, fresh_share = rules
    n_candidates = utility.shape[1]
    logits, every, among = np.empty(n_candidates), np.empty(n_candidates), np.empty(n_candidates)
    allowed, of_fresh = np.empty(n_candidates, np.bool_), np.empty(n_candidates, np.bool_)
    likeness = np.empty(n_candidates)
    for b in range(len(utility)):
        left = usable[b].copy()
        likeness[:] = 0.0
        of_group = np.zeros(groups[b].shape, np.int64)
        for c in range(n_candidates):
            if placed[b, c]:
                _take(c, left, likeness, of_group, vectors[b], groups[b])
        for position in range(lengths[b] if choosing else index.shape[1]):
            chosen = index[b, position]
            if not choosing and chosen < 0:
                continue
            _open(left, of_group, cap, allowed)
            for c in range(n_candidates):
                logits[c] = (utility[b, c] - diversity * likeness[c]) / temperature
                of_fresh[c] = allowed[c] and c < fresh.shape[1] and fresh[b, c]
            _softmax(logits, allowed, every)
            some = _softmax(logits, of_fresh, among)
            share = fresh_share if some else 0.0
            if choosing:
                kept = some and for_fresh[b, position] < fresh_share
                chosen = _draw(among if kept else every, which[b, position])
                index[b, position] = chosen
            propensities[b, position] = share * among[chosen] + (1.0 - share) * every[chosen]
            if usable[b, chosen]:  # what is pinned is there already
                _take(chosen, left, likeness, of_group, vectors[b], groups[b])
