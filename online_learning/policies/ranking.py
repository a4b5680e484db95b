"""Steps that several policies share: utilities, slate sizes, top-k."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.statistics.arm_posterior import ArmPosterior
from online_learning.statistics.posterior import LinearPosterior
from online_learning.types import Candidates


def utilities(candidates: Candidates, posterior: LinearPosterior) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the utility of every candidate under the mean weights and which candidates can be used.

    Returns
    -------
    utility : (B, C) float64, posterior.rows @ mean and what boosts add; -inf where it cannot be used
    usable : (B, C) bool, valid and of finite utility (a NaN or infinite feature makes it unusable)
    """
    check_dim(candidates, len(posterior.mean))
    weights, rows = posterior.mean.astype(np.float32), posterior.rows(candidates.features)
    with np.errstate(invalid="ignore", over="ignore"):
        raw = (rows @ weights).astype(np.float64) + boosts(candidates)
    usable = candidates.valid & np.isfinite(raw)
    return np.where(usable, raw, -np.inf), usable


def arm_utilities(
    candidates: Candidates, posterior: ArmPosterior
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return mean and deviation of every candidate's expected reward, and which can be used.

    Boosts are in the mean.

    Returns
    -------
    mean, deviation : (B, C) float64, 0 where it cannot be used
    usable : (B, C) bool, valid and of finite mean and deviation
    """
    if candidates.arms is None:
        raise ValueError("arms must be given to a policy with a model per item, got None")
    check_dim(candidates, posterior.mean.shape[1])
    mean, deviation = posterior.moments(candidates.features, candidates.arms)
    usable = candidates.valid & np.isfinite(mean) & np.isfinite(deviation)
    mean = mean + boosts(candidates)
    return np.where(usable, mean, 0.0), np.where(usable, deviation, 0.0), usable


def boosts(candidates: Candidates) -> NDArray[np.float32]:
    """Return (B, C) float32, what is added to each candidate's utility."""
    given = candidates.boosts
    return np.zeros(candidates.valid.shape, np.float32) if given is None else given


def check_dim(candidates: Candidates, dim: int) -> None:
    """Raise ValueError when the candidates have another number of features."""
    got = candidates.features.shape[-1]
    if got != dim:
        raise ValueError(f"features must have the policy's dimension {dim}, got {got}")


def check_request(candidates: Candidates, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> None:
    """Raise ValueError when `k` or `seeds` do not go with `candidates`."""
    n = len(candidates.scores)
    if k.shape != (n,) or seeds.shape != (n,):
        raise ValueError(f"k and seeds must have shape ({n},), got {k.shape} and {seeds.shape}")
    if n and k.min() < 0:
        raise ValueError(f"k must be at least 0, got {k.min()}")


def check_slates(candidates: Candidates, index: NDArray[np.int64], seeds: NDArray[np.uint64]) -> None:
    """Raise ValueError when slates or `seeds` do not go with `candidates`."""
    n, width = candidates.scores.shape
    if index.ndim != 2 or len(index) != n or seeds.shape != (n,):
        raise ValueError(
            f"index and seeds must have shapes ({n}, K) and ({n},), got {index.shape} and {seeds.shape}"
        )
    if index.size and not -1 <= index.min() <= index.max() < width:
        raise ValueError(f"index must be in [-1, {width}), got {index.min()} to {index.max()}")


def positions(
    usable: NDArray[np.bool_], index: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
    """Go through the positions of slates that have been chosen.

    Yields
    ------
    rows : (n,) int64, the slates that reach this position
    chosen : (n,) int64, the candidate there
    left : (n, C) bool, the usable candidates that no position before has
    """
    left = usable.copy()
    for position in range(index.shape[1]):
        rows = np.flatnonzero(index[:, position] >= 0)
        if not len(rows):
            return
        chosen = index[rows, position]
        yield rows, chosen, left[rows]
        left[rows, chosen] = False


def slate_lengths(usable: NDArray[np.bool_], k: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (B,) int64, how many positions each slate gets: min(k, usable candidates)."""
    lengths: NDArray[np.int64] = np.minimum(k, usable.sum(axis=1, dtype=np.int64))
    return lengths


def top_k(keys: NDArray[np.float64], usable: NDArray[np.bool_], k: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (B, max k) int64, the usable columns of highest key first; -1 after the slate's end.

    Equal keys keep the candidates' order. `keys` must be -inf where `usable` is False.
    """
    n, width = len(keys), int(k.max(initial=0))
    index = np.full((n, width), -1, np.int64)
    shown = min(width, keys.shape[1])
    order = np.argsort(-keys, axis=1, kind="stable")[:, :shown]
    filled = np.arange(shown) < slate_lengths(usable, k)[:, None]
    index[:, :shown] = np.where(filled, order, -1)
    return index


def highest(
    keys: NDArray[np.float64], usable: NDArray[np.bool_], index: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return (B, K) float32: 1 where a slate has what `top_k` would put there after the positions before.

    Parameters
    ----------
    keys : (B, C) float64, -inf where `usable` is False
    """
    propensities = np.zeros(index.shape, np.float32)
    for position, (rows, chosen, left) in enumerate(positions(usable, index)):
        best = np.argmax(np.where(left, keys[rows], -np.inf), axis=1)
        propensities[rows, position] = (chosen == best) & left[np.arange(len(rows)), chosen]
    return propensities


def certain(index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the propensities of a slate chosen without chance: 1, and 0 where `index` is -1."""
    return (index >= 0).astype(np.float32)
