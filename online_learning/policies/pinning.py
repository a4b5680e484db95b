"""Pinned candidates: they stand at the top of a slate, whatever the policy, and the policy fills the rest.

Use: with `top = pinned(candidates, k)`, let a policy choose `k - (top >= 0).sum(axis=1)` positions of
`others(candidates, top)` and put `top` above its slates with `above`. The propensity of a pinned position is
1, and those of the others are the policy's own, given the positions before.
"""

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.trial import on_trial
from online_learning.types import Candidates

Kind = TypeVar("Kind", bound=np.generic)


def pinned(candidates: Candidates, k: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (B, P) int64, the columns of each request's pinned candidates in their order, -1 after the last.

    Those that are not valid are left out, as are those for which a slate of k has no room.
    """
    if candidates.pinned is None:
        return np.full((len(k), 0), -1, np.int64)
    wanted = candidates.valid & (candidates.pinned >= 0)
    counts = np.minimum(wanted.sum(axis=1, dtype=np.int64), k)
    order = np.argsort(np.where(wanted, candidates.pinned, np.iinfo(np.int64).max), axis=1, kind="stable")
    top = order[:, : int(counts.max(initial=0))]
    return np.where(np.arange(top.shape[1]) < counts[:, None], top, -1)


def others(candidates: Candidates, top: NDArray[np.int64]) -> Candidates:
    """Return the candidates of which those in `top`, and no others, are pinned and not valid any more.

    Parameters
    ----------
    top : (B, P) as of `pinned`, or of `standing`
    """
    valid, placed = candidates.valid.copy(), np.full(candidates.valid.shape, -1, np.int64)
    rows, places = np.nonzero(top >= 0)
    valid[rows, top[rows, places]] = False
    placed[rows, top[rows, places]] = places
    return replace(candidates, valid=valid, pinned=placed)


def standing(candidates: Candidates, k: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (B, P + 1) int64, columns of what stands in slates of k whatever the policy.

    These are what is pinned, and in the last place what is on trial; -1 = nothing.
    """
    top = pinned(candidates, k)
    return np.column_stack([top, on_trial(candidates, k - (top >= 0).sum(axis=1))])


def where_standing(index: NDArray[np.int64], stand: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (B, K) bool, which positions of slates are taken by what is `standing`."""
    found: NDArray[np.bool_] = (index[:, :, None] == stand[:, None, :]).any(axis=2)
    return found & (index >= 0)


def above(top: NDArray[np.int64], values: Any, below: NDArray[Kind], *, end: Any) -> NDArray[Kind]:
    """Return (B, P + K), each request's pinned positions and then its others.

    Parameters
    ----------
    top : (B, P) as of `pinned`
    values : (B, P) or one value, what stands at the pinned positions
    below : (B, K) of the other positions
    end : what stands after the last
    """
    counts = (top >= 0).sum(axis=1)[:, None]
    joined = np.full((len(top), top.shape[1] + below.shape[1]), end, below.dtype)
    places = np.arange(joined.shape[1])
    np.copyto(joined[:, : top.shape[1]], values, where=top >= 0)
    joined[(places >= counts) & (places < counts + below.shape[1])] = below.ravel()
    return joined
