"""Transitions that learners learn from: slates with their rewards, and the slate that came next."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Steps:
    """N slates of sessions, in any order.

    In a log of served slates only what was shown has features: C = K, and `complete` is False. There a
    learner may only prefer among actions that the log holds, which is what keeps it from trusting values
    of what was never tried (Fujimoto, Meger & Precup, "Off-policy deep reinforcement learning without
    exploration", ICML 2019).

    Attributes
    ----------
    features : (N, C, F) float32, finite
    valid : (N, C) bool, which of them could be chosen
    index : (N, K) int64, column of the item at each position; -1 where a slate has ended
    rewards : (N, K) float32
    propensities : (N, K) float32, probability that the policy put this item here, given the positions before
    following : (N,) int64, row of the session's next slate; -1 at its end
    complete : whether all candidates are here, or those that were shown
    """

    features: NDArray[np.float32]
    valid: NDArray[np.bool_]
    index: NDArray[np.int64]
    rewards: NDArray[np.float32]
    propensities: NDArray[np.float32]
    following: NDArray[np.int64]
    complete: bool

    def __post_init__(self) -> None:
        n = len(self.features)
        for name, wanted in (
            ("valid", self.features.shape[:2]),
            ("rewards", self.index.shape),
            ("propensities", self.index.shape),
            ("following", (n,)),
        ):
            if (got := getattr(self, name).shape) != wanted:
                raise ValueError(f"{name} must have shape {wanted} to go with the rest, got {got}")
        if len(self.index) != n or not n:
            raise ValueError(f"index must have a row for each of at least 1 slate, got {len(self.index)}")
        if n and self.following.max() >= n:
            raise ValueError(f"following must name rows below {n}, got {self.following.max()}")
        shown = self.index >= 0
        bad = shown & ~((self.propensities > 0) & (self.propensities <= 1))
        if bad.any():
            raise ValueError(f"propensities must be in (0, 1], got {self.propensities[bad][0]}")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def shown(self) -> NDArray[np.bool_]:
        """(N, K) bool, which positions hold an item."""
        return self.index >= 0

    @property
    def totals(self) -> NDArray[np.float64]:
        """(N,) float64, reward of each slate."""
        return np.asarray(np.where(self.shown, self.rewards, 0.0).sum(axis=1, dtype=np.float64))

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return some slates; `following` still names rows of all of them, so no returns are to be had."""
        columns = ("features", "valid", "index", "rewards", "propensities")
        return replace(
            self, **{name: getattr(self, name)[rows] for name in columns}, following=np.full(len(rows), -1)
        )


def discounted(values: NDArray[Any], following: NDArray[np.int64], discount: float) -> NDArray[np.float64]:
    """Return each row's value plus `discount` times that of the row that follows, and so on to the end.

    Pointer doubling: log2(longest session) rounds over whole columns.

    Parameters
    ----------
    values : (N,) float, following : (N,) int64, -1 at the end; no row may lead to itself
    """
    total = np.append(np.asarray(values, np.float64), 0.0)
    factor = np.append(np.full(len(values), float(discount)), 0.0)
    onward = np.append(np.where(following < 0, len(values), following), len(values))
    for _ in range(len(values).bit_length() + 1):
        if (onward == len(values)).all():
            return total[:-1]
        total += factor * total[onward]
        factor *= factor[onward]
        onward = onward[onward]
    raise ValueError("following must end, got slates that lead to themselves")


def follow(users: NDArray[Any], times_ms: NDArray[np.int64], *, gap_ms: int) -> NDArray[np.int64]:
    """Return the row of each slate's next one in its session: (N,) int64, -1 at the end.

    A session is a user's slates with at most `gap_ms` from one to the next.

    Parameters
    ----------
    users : (N,) ids, times_ms : (N,) int64
    """
    if gap_ms < 1:
        raise ValueError(f"gap_ms must be at least 1, got {gap_ms}")
    order = np.lexsort((times_ms, users))
    before, after = order[:-1], order[1:]
    same = (users[before] == users[after]) & (times_ms[after] - times_ms[before] <= gap_ms)
    following = np.full(len(users), -1, np.int64)
    following[before[same]] = after[same]
    return following
