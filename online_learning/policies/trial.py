"""Items on trial: at one position of a slate stands an item that is new, whatever the policy.

A policy that goes by what is known of items hardly ever shows one of which nothing is known, and so nothing
becomes known of it. What is on trial is drawn before the policy chooses, so the propensity of its position is
1, as of a pinned one, and those of the others are the policy's own, given what is on trial.

Use: with `tried = on_trial(candidates, room)`, let a policy choose one position fewer among the candidates
without them, and put them into its slates by `inserted`.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from online_learning.types import Candidates

Columns = NDArray[np.int64]
Slates = tuple[Columns, NDArray[np.float32], NDArray[np.int8], Columns]
"""Index, propensities, teams, and where each slate has what is on trial."""


def on_trial(candidates: Candidates, room: NDArray[np.int64]) -> Columns:
    """Return (B,) int64, the column of each request's candidate on trial, -1 where there is none.

    Parameters
    ----------
    room : (B,) int64, positions that are not pinned
    """
    if candidates.trial is None:
        return np.full(len(room), -1, np.int64)
    there = (candidates.trial >= 0) & (room > 0)
    requests = np.arange(len(room))
    there &= candidates.valid[requests, candidates.trial]
    if candidates.pinned is not None:
        there &= candidates.pinned[requests, candidates.trial] < 0
    return np.where(there, candidates.trial, -1)


def inserted(
    tried: Columns,
    at: Columns,
    above: Columns,
    index: Columns,
    propensities: NDArray[np.float32],
    teams: NDArray[np.int8],
    width: int,
) -> Slates:
    """Put what is on trial into slates that were chosen without it, with a propensity of 1 and in no team.

    It stands at the position that was drawn for it, or last where a slate ends before, and never above what
    is pinned.

    Parameters
    ----------
    tried : (B,) as of `on_trial`
    at : (B,) int64, positions drawn for it; above : (B,) int64, positions that are pinned
    index, propensities, teams : (B, K) of the slates without it, ended by -1, 0 and -1
    width : positions of the longest slate with it
    """
    n = len(tried)
    out = (
        np.full((n, width), -1, np.int64),
        np.zeros((n, width), np.float32),
        np.full((n, width), -1, np.int8),
        np.full(n, -1, np.int64),
    )
    _insert(tried, at, above, index, propensities, teams, *out)
    return out


# It takes a microsecond a slate, and so keeps the interpreter.
@numba.njit(cache=True)
def _insert(tried, at, above, index, propensities, teams, to, to_propensities, to_teams, positions):  # type: ignore[no-untyped-def]
    for b in range(len(tried)):
        size = 0
        while size < index.shape[1] and index[b, size] >= 0:
            size += 1
        place = min(max(at[b], above[b]), size) if tried[b] >= 0 else -1
        positions[b] = place
        k = 0
        for position in range(to.shape[1]):
            if position == place:
                to[b, position], to_propensities[b, position] = tried[b], np.float32(1)
            elif k < size:
                to[b, position], to_propensities[b, position] = index[b, k], propensities[b, k]
                to_teams[b, position] = teams[b, k]
                k += 1


def warm() -> None:
    """Compile the kernel, or load it from the cache."""
    one = np.zeros(1, np.int64)
    inserted(one, one, one, one[None], np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int8), width=1)
