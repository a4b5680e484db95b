"""Score drift: the last ten minutes compared with everything served before."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from online_learning.statistics.stability import population_stability

MIN_SLATES = 1_000
"""Impressions on either side, below which an index tells little but chance."""

Bands = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Drift:
    """Drift and calibration of the scores of this worker's closed slates.

    Attributes
    ----------
    recent, earlier : impressions with a probability as score
    psi : population stability index of recent against earlier scores; None if there are too few
    calibration : responses divided by those the recent scores predict; None if there are too few
    """

    recent: float
    earlier: float
    psi: float | None
    calibration: float | None


def _stability(now: Bands, before: Bands) -> float:
    bands = sorted(now.keys() | before.keys())
    return population_stability(*(np.array([of.get(band, 0.0) for band in bands]) for of in (now, before)))


@dataclass(frozen=True, slots=True)
class Scored:
    """Counts of scores at one moment."""

    impressions: Bands
    responses: float
    predicted: float


class DriftWatch:
    """Keeps a reading of each so many seconds, as many as there are to a window."""

    def __init__(self, *, every_s: float = 10.0, window_s: float = 600.0) -> None:
        self._every_s = every_s
        self._kept: deque[Scored] = deque(maxlen=int(window_s / every_s) + 1)
        self._taken = -math.inf

    def take(self, at: float, scored: Scored) -> None:
        """Take a reading, if it is time for one."""
        if at - self._taken >= self._every_s:
            self._taken = at
            self._kept.append(scored)

    def now(self) -> Drift | None:
        """Return what the window says; None before there are two readings."""
        if len(self._kept) < 2:
            return None
        first, last = self._kept[0], self._kept[-1]
        recent = {
            band: n - first.impressions.get(band, 0.0)
            for band, n in last.impressions.items()
            if n > first.impressions.get(band, 0.0)
        }
        n, earlier = sum(recent.values()), sum(first.impressions.values())
        predicted = last.predicted - first.predicted
        return Drift(
            n, earlier,
            _stability(recent, first.impressions) if min(n, earlier) >= MIN_SLATES else None,
            (last.responses - first.responses) / predicted if n >= MIN_SLATES and predicted > 0 else None,
        )  # fmt: skip
