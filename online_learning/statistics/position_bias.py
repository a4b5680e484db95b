"""Learns the examination probability of each position of a slate from clicks, by EM.

The position-based model (Richardson, Dominowska & Ragno, "Predicting clicks", WWW 2007) says
P(click) = examination[position] x relevance: an item is taken when it is looked at and wanted. Which of the
two was missing where nothing was taken is unknown; EM fills it in (Wang, Golbandi, Bendersky, Metzler &
Najork, "Position bias estimation for unbiased learning to rank in personal search", WSDM 2018, section 4).
As there, relevance is regressed on what was known when the item was served: here on the served score, by a
level for each narrow band of its log-odds. So all that is needed of the slates is how often each (position,
band) was shown and taken, which adds up over partitions, and EM starts anew from these counts each time.

The clicks determine examination and relevance only up to a factor: the first position is looked at always
(examination[0] = 1). They also need bands that occur at several positions; where a position shares no band
with the first, directly or over others, the prior decides, which says that it is looked at as the first is.
Within a band, relevance must not depend on the position.
"""

from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_learning.compiled import compiled
from online_learning.statistics.observations import Count

SCHEMA_VERSION = 1

# Positions from the last one on are taken to be alike.
POSITIONS = 20

# Bands of the score's log-odds, BAND wide, around 0.
BANDS, BAND = 64, 0.25

# Slates in which each position is believed to have been looked at before anything is known.
PRIOR_SLATES = 2.0

_MAX_ROUNDS, _TOLERANCE = 5_000, 1e-7


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
    v: int
    shown: list[Count]
    taken: list[Count]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Snapshot).decode


class PositionStatistics:
    """Counts of items shown and taken by band of scores and position: additive over partitions.

    Attributes
    ----------
    shown, taken : (POSITIONS, BANDS) int64
    """

    __slots__ = ("shown", "taken")

    def __init__(self) -> None:
        self.shown = np.zeros((POSITIONS, BANDS), np.int64)
        self.taken = np.zeros((POSITIONS, BANDS), np.int64)

    def add(self, scores: NDArray[Any], taken: NDArray[np.bool_]) -> None:
        """Add one slate.

        Parameters
        ----------
        scores : (k,) float, probabilities by position, as served; one that is not finite is left out
        taken : (k,) bool, whether the item was responded to
        """
        values = np.asarray(scores, np.float64)
        if values.ndim != 1 or np.shape(taken) != values.shape:
            raise ValueError(f"scores and taken must be of one length, got {values.shape}, {np.shape(taken)}")
        known = np.isfinite(values)
        chance = np.clip(values[known], 1e-9, 1.0 - 1e-9)
        odds = np.log(chance / (1.0 - chance))
        bands = np.clip(np.floor(odds / BAND).astype(np.int64) + BANDS // 2, 0, BANDS - 1)
        positions = np.minimum(np.flatnonzero(known), POSITIONS - 1)
        np.add.at(self.shown, (positions, bands), 1)
        np.add.at(self.taken, (positions, bands), np.asarray(taken, np.int64)[known])

    def __add__(self, other: Self) -> Self:
        total = type(self)()
        total.shown = self.shown + other.shown
        total.taken = self.taken + other.taken
        return total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PositionStatistics) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def to_bytes(self) -> bytes:
        """Return a versioned msgpack snapshot."""
        return _encode(_Snapshot(SCHEMA_VERSION, self.shown.ravel().tolist(), self.taken.ravel().tolist()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote, exactly; empty bytes are statistics of nothing.

        Raises
        ------
        ValueError
            The bytes are no snapshot, of another schema version, or hold counts that no slates give.
        """
        statistics = cls()
        if not data:
            return statistics
        try:
            snapshot = _decode(data)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"not a snapshot of position statistics: {error}") from None
        if snapshot.v != SCHEMA_VERSION:
            raise ValueError(
                f"position statistics must have schema version {SCHEMA_VERSION}, got {snapshot.v}"
            )
        shown, taken = np.array(snapshot.shown, np.int64), np.array(snapshot.taken, np.int64)
        size = POSITIONS * BANDS
        if shown.shape != (size,) or taken.shape != (size,):
            raise ValueError(f"position statistics must have {size} cells, got {shown.size}, {taken.size}")
        if (shown < taken).any():
            raise ValueError("position statistics must have 0 <= taken <= shown in every cell")
        statistics.shown, statistics.taken = shown.reshape(POSITIONS, BANDS), taken.reshape(POSITIONS, BANDS)
        return statistics


def examination(statistics: PositionStatistics, n: int) -> NDArray[np.float64]:
    """Return how often each of n positions is looked at, in (0, 1]; 1 for the first.

    Maximum a posteriori: each position has `PRIOR_SLATES` slates in which it was looked at added to those
    that were seen, so that without clicks, which say nothing, the answer is 1.
    """
    theta = _expectation_maximisation(
        statistics.shown.astype(np.float64),
        statistics.taken.astype(np.float64),
        PRIOR_SLATES,
        _MAX_ROUNDS,
        _TOLERANCE,
    )
    return by_position(theta, n)


def by_position(known: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return n entries of which those beyond the known ones repeat the last of these."""
    return known[np.minimum(np.arange(n), len(known) - 1)]


def power_law(exponent: float, n: int) -> NDArray[np.float64]:
    """Return (position + 1) ** -exponent for each of n positions: (n,) float64."""
    weights: NDArray[np.float64] = np.arange(1.0, n + 1.0) ** -exponent
    return weights


@compiled
def _expectation_maximisation(
    shown: NDArray[np.float64],
    taken: NDArray[np.float64],
    prior: float,
    max_rounds: int,
    tolerance: float,
) -> NDArray[np.float64]:
    """Return the examination of each position: (P,) float64, after EM over (P, L) counts has settled."""
    n_positions, n_bands = shown.shape
    # 1 would stay 1: where everything is looked at, nothing that was not taken can have been overlooked.
    theta, relevance = np.full(n_positions, 0.5), np.zeros(n_bands)
    theta[0] = 1.0
    for band in range(n_bands):
        total = shown[:, band].sum()
        relevance[band] = taken[:, band].sum() / total if total > 0.0 else 0.0
    for _ in range(max_rounds):
        looked, wanted = np.full(n_positions, prior), np.zeros(n_bands)
        for position in range(n_positions):
            for band in range(n_bands):
                t, r = theta[position], relevance[band]
                left = shown[position, band] - taken[position, band]
                missed = max(1.0 - t * r, 1e-12)
                looked[position] += taken[position, band] + left * t * (1.0 - r) / missed
                wanted[band] += taken[position, band] + left * r * (1.0 - t) / missed
        change = 0.0
        for position in range(1, n_positions):
            new = looked[position] / (shown[position].sum() + prior)
            change = max(change, abs(new - theta[position]))
            theta[position] = new
        for band in range(n_bands):
            total = shown[:, band].sum()
            if total > 0.0:
                relevance[band] = wanted[band] / total
        if change < tolerance:
            break
    return theta
