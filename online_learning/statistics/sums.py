"""Base of all statistics: sums over observations of a linear model, in slots."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from online_learning.statistics.decay import (
    check_half_life,
    first_exponent,
    power_of_two,
    row_times,
    scale_at,
)
from online_learning.statistics.fold_kernels import add_moment, add_outer
from online_learning.statistics.observations import check_each, check_rows, check_weights, unpack

IMPRESSIONS, REWARDS, AMENDMENTS = 0, 1, 2

ROUNDING = 1e-9
"""Of sums that others were subtracted from, relative to the largest."""

Rows = NDArray[np.int64] | NDArray[np.bool_] | slice


class InSpace(Protocol):
    """Something that names the feature space it belongs to."""

    @property
    def dim(self) -> int:
        """Number of features."""
        ...

    @property
    def feature_space(self) -> str:
        """Name of the features and of how they are summed; statistics of another one refuse to be added."""
        ...


class Statistics(ABC):
    """Takes in observations; whoever derives from it says which slot a row goes to (`_admit`).

    `kind` names what derives from it: in feature spaces, so that kinds never meet, and in messages.
    `separable` tells whether `take_out` can subtract anything.

    Parameters
    ----------
    dim : number of features F
    feature_space : names what the features mean
    half_life_ms : of an observation's weight, at least 1; None forgets nothing
    slots : how many there are to begin with
    """

    kind: ClassVar[str]
    separable: ClassVar[bool] = True

    def __init__(self, dim: int, *, feature_space: str, half_life_ms: int | None, slots: int) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        check_half_life(half_life_ms)
        self.dim = dim
        self.feature_space = feature_space
        self.half_life_ms = half_life_ms
        self._packed = np.zeros((slots, dim * (dim + 1) // 2))  # see `fold_kernels`
        self._moment = np.zeros((slots, dim))
        self._clocks = np.array([[first_exponent(half_life_ms), 0]], np.int64).repeat(slots, axis=0)
        self._counts = np.zeros((2, slots), np.int64)
        self._changed = True
        self.n_forgotten = 0  # parts, ever

    @classmethod
    @abstractmethod
    def blank(cls, prior: Any, *, half_life_ms: int | None) -> Self:
        """Return statistics of nothing, of the dimension and feature space of a `LinearPrior`."""

    @classmethod
    @abstractmethod
    def read_for(cls, data: bytes, prior: Any, *, half_life_ms: int | None) -> Self:
        """Return what `to_bytes` wrote, if it goes with the prior; raise ValueError on anything else."""

    @classmethod
    def rows(cls, features: NDArray[Any]) -> NDArray[Any]:
        """Return what is added of the items of one slate, shown or rewarded: (K, F) float.

        Parameters
        ----------
        features : (K, F) float, of all items of the slate
        """
        return features

    @property
    def impressions(self) -> int:
        """Impressions added, however little they weigh by now."""
        return int(self._counts[IMPRESSIONS].sum())

    @property
    def rewards(self) -> int:
        """Rewards added, however little they weigh by now."""
        return int(self._counts[REWARDS].sum())

    @property
    def latest_ms(self) -> int:
        """The latest time added, which the sums are discounted to; 0 without a half-life."""
        return int(self._clocks[:, 1].max(initial=0))

    def add_impressions(
        self,
        features: NDArray[Any],
        *,
        arms: NDArray[np.uint64] | None = None,
        times_ms: NDArray[Any] | int | None = None,
        weights: NDArray[Any] | None = None,
        offsets: NDArray[Any] | int | None = None,
    ) -> int:
        """Add shown items and return how many were used.

        Parameters
        ----------
        features : (n, F) float, one row per shown item; a row with NaN or infinity is left out
        arms : (n,) uint64, which item each row is; only statistics by item look at it
        times_ms : (n,) int or one int, when they were shown; needed with a half-life
        weights : (n,) float, chance that a row was looked at, 1 when not given: an item that is looked at
            half as often has half the rewards, and half the impressions make up for it
        offsets : (n,) int or one int, where in the log of impressions they stand; statistics by item leave
            out a row at or below what its item has been applied up to. The others do not look at it: whoever
            saves them keeps the offset up to which they go.
        """
        rows = check_rows(features, self.dim)
        times, exponents, factors = row_times(times_ms, len(rows), self.half_life_ms)
        factors = factors * check_weights(weights, len(rows))
        slots, fresh = self._admit(arms, len(rows), offsets, IMPRESSIONS)
        counts = self._counts[IMPRESSIONS]
        return self._fold(rows[fresh], factors[fresh], times[fresh], exponents[fresh], slots[fresh], counts)

    def amend_impressions(
        self,
        features: NDArray[Any],
        weights: NDArray[Any],
        *,
        arms: NDArray[np.uint64] | None = None,
        times_ms: NDArray[Any] | int | None = None,
        offsets: NDArray[Any] | int | None = None,
    ) -> int:
        """Add to the weights of items already added as impressions and return how many were used.

        Parameters
        ----------
        features : (n, F) float, the rows that were shown
        weights : (n,) float; -1 takes a row of weight 1 back, 1 puts it in again
        arms, times_ms : as of `add_impressions`
        offsets : as of `add_impressions`, but in the log of what amends them
        """
        rows = check_rows(features, self.dim)
        times, exponents, factors = row_times(times_ms, len(rows), self.half_life_ms)
        factors = factors * check_each("weights", weights, len(rows))
        slots, fresh = self._admit(arms, len(rows), offsets, AMENDMENTS)
        counts = np.zeros_like(self._counts[IMPRESSIONS])
        return self._fold(rows[fresh], factors[fresh], times[fresh], exponents[fresh], slots[fresh], counts)

    def add_rewards(
        self,
        features: NDArray[Any],
        rewards: NDArray[Any],
        *,
        arms: NDArray[np.uint64] | None = None,
        times_ms: NDArray[Any] | int | None = None,
        offsets: NDArray[Any] | int | None = None,
    ) -> int:
        """Add rewards of items already added as impressions and return how many were used.

        Parameters
        ----------
        features : (n, F) float, the rows that were shown
        rewards : (n,) float; a reward or a row with NaN or infinity is left out
        arms : as of `add_impressions`
        times_ms : (n,) int or one int, when the items were shown (not rewarded); needed with a half-life
        offsets : as of `add_impressions`, but in the log of rewards
        """
        rows = check_rows(features, self.dim)
        values = check_each("rewards", rewards, len(rows))
        times, exponents, factors = row_times(times_ms, len(rows), self.half_life_ms)
        slots, fresh = self._admit(arms, len(rows), offsets, REWARDS)
        self._changed = True
        used = add_moment(
            rows[fresh], values[fresh], factors[fresh], times[fresh], exponents[fresh], slots[fresh],
            self._packed, self._moment, self._clocks, self._counts[REWARDS],
        )  # fmt: skip
        return int(used)

    @abstractmethod
    def __add__(self, other: Any) -> Self:
        """Return the statistics of both parts; raise ValueError where they do not go together."""

    @abstractmethod
    def empty(self) -> "Statistics":
        """Return statistics of nothing that may be added to these."""

    @abstractmethod
    def take_out(self, part: Any) -> bool:
        """Subtract sums of observations that have been added to these, in whatever order.

        What is left differs from sums without them by how these round. False, with all of it unchanged, where
        it would not be sums of real observations: the part was added with other weights, or never.
        """

    @abstractmethod
    def copy(self) -> "Statistics":
        """Return statistics that share no memory with these."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Return a versioned snapshot; equal statistics give equal bytes."""

    def move_to(self, prior: Any) -> None:
        """Go on in the feature space of a `LinearPrior`, which has the same features by another name."""
        if len(prior.weights) != self.dim:
            raise ValueError(f"prior must be over {self.dim} features, got {len(prior.weights)}")
        self.feature_space = prior.feature_space

    # How they are saved: as a whole, or each part in a row of its own

    def summary(self) -> bytes:
        """Return what is saved as a whole: `to_bytes`, or b"" where every part has a row of its own."""
        return self.to_bytes()

    def take_rows(self) -> list[tuple[int, bytes]]:
        """Return the rows of the parts that have changed since the last call, as (the part's number, row)."""
        return []

    def put_back(self, parts: Iterable[int]) -> None:  # noqa: B027 - a whole has no parts
        """Let `take_rows` give the rows of these parts again: they were taken and not saved."""

    def load_rows(self, rows: Iterable[bytes]) -> None:  # noqa: B027 - a whole has no rows
        """Take in rows of `take_rows`, each in place of its part as it was; what is saved whole has none."""

    @property
    def parts(self) -> NDArray[np.uint64]:
        """Numbers of the parts that have rows of their own: (n,) uint64."""
        return np.zeros(0, np.uint64)

    def forget(self, parts: Iterable[int]) -> None:  # noqa: B027 - a whole has no parts
        """Take parts out, with all that is known of them; copies must be made anew (`n_forgotten`)."""

    # How they are learned from beside whoever adds to them

    @abstractmethod
    def take_changes(self, most: int) -> Self | None:
        """Return a copy of what has changed since it was last taken, of `most` parts at most.

        None when nothing has. Call it until then, and give what it returns to `replace` of others, which
        then are a copy of these: no call takes long, however many parts there are.
        """

    @abstractmethod
    def touch(self) -> None:
        """Let everything count as changed for `take_changes`: whoever takes from now on has nothing yet."""

    @abstractmethod
    def replace(self, changes: Self) -> None:
        """Put what another has taken (`take_changes`) in place of these parts as they were."""

    def next_reference(self) -> NDArray[np.float64] | None:
        """Return where rows to come are best developed (`develop_at`), None where nothing is developed."""
        return None

    def develop_at(self, weights: NDArray[Any]) -> None:  # noqa: B027 - sums of outcomes need no point
        """Develop the rows to come around `weights`, (F,) float, where rows are developed at all."""

    @abstractmethod
    def _admit(
        self, arms: NDArray[np.uint64] | None, n: int, offsets: NDArray[Any] | int | None, kind: int
    ) -> tuple[NDArray[np.int64], Rows]:
        """Return the slot of each of n rows, and which rows are to be added."""

    def _fold(
        self,
        rows: NDArray[np.float64],
        weights: NDArray[np.float64],
        times: NDArray[np.int64],
        exponents: NDArray[np.int64],
        slots: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> int:
        """Add impressions to their slots and to `counts`; return how many were used."""
        self._changed = True
        sums = (self._packed, self._moment, self._clocks)
        return int(add_outer(rows, weights, times, exponents, slots, *sums, counts))

    def _scale(self) -> Any:
        """Return (slots,), what each slot's sums are multiplied by to be of `latest_ms`."""
        return scale_at(self._clocks[:, 0], self.latest_ms, self.half_life_ms)

    def _take_out(self, slots: NDArray[np.int64], part: "Statistics", at: NDArray[np.int64]) -> bool:
        """Subtract slots of another's sums, each from one of these."""
        self._check_like(part)
        counts = self._counts[:, slots] - part._counts[:, at]
        exponents = np.maximum(self._clocks[slots, 0], part._clocks[at, 0])
        mine = power_of_two(self._clocks[slots, 0] - exponents)[:, None]
        theirs = power_of_two(part._clocks[at, 0] - exponents)[:, None]
        before = self._packed[slots] * mine
        packed = before - part._packed[at] * theirs
        moment = self._moment[slots] * mine - part._moment[at] * theirs
        packed[counts[IMPRESSIONS] == 0] = 0.0
        moment[counts[REWARDS] == 0] = 0.0
        largest = np.abs(before).max(axis=1, initial=0.0)
        if counts.min(initial=0) < 0 or not _may_be_sums(unpack(packed, self.dim), largest):
            return False
        self._packed[slots], self._moment[slots], self._clocks[slots, 0] = packed, moment, exponents
        self._counts[:, slots] = counts
        self._changed = True
        return True

    def _check_like(self, other: "Statistics") -> None:
        """Raise ValueError unless `other` may be added to these."""
        check_same_space(self.dim, self.feature_space, other)
        if self.half_life_ms != other.half_life_ms:
            raise ValueError(
                f"half_life_ms must be {self.half_life_ms} to be added, got {other.half_life_ms}"
            )


def _may_be_sums(matrices: NDArray[np.float64], largest: NDArray[np.float64]) -> bool:
    """Whether (A, F, F) matrices are sums of outer products of real rows, but for how they round.

    largest : (A,) float64, what numbers of the sums that they are differences of went up to
    """
    return not len(matrices) or bool(np.all(np.linalg.eigvalsh(matrices)[:, 0] >= -ROUNDING * largest))


def check_same_space(dim: int, feature_space: str, statistics: InSpace) -> None:
    """Raise ValueError unless `statistics` are over `dim` features of `feature_space`."""
    if statistics.dim != dim:
        raise ValueError(f"statistics must have dim {dim}, got {statistics.dim}")
    if statistics.feature_space != feature_space:
        raise ValueError(
            f"statistics must be of feature_space {feature_space!r}, got {statistics.feature_space!r}"
        )
