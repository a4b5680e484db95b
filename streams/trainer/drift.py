"""Drift of the live release's scores since it began to serve, from `feedback`."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_learning.statistics.stability import population_stability
from streams.events import UNDECODABLE

SCORES = 10_000
"""Scores of either side. By chance alone the index of so many is about 2 (BINS - 1) / SCORES = .002."""
BINS = 10


class _Item(msgspec.Struct, gc=False):
    score: float


class _Record(msgspec.Struct, gc=False):
    """The fields of `Feedback` that are read."""

    slate: list[_Item]
    model_version: str
    timestamp_ms: int
    correction: bool = False


_decode = msgspec.json.Decoder(_Record).decode


class ScoreDrift:
    """Compares the first scores of a release's slates, as served, with its latest.

    By the population stability index over bins that had a tenth of the first scores each. A score is what the
    release says of an item for a user, so it moves with users, items and their past, whatever made them move.

    Parameters
    ----------
    version : of the release
    n : scores of either side; the first and the latest never overlap
    every_ms : between two slates of a partition that are read, at least: so that neither side is of a moment
    """

    def __init__(self, version: str, *, n: int = SCORES, every_ms: int = 0) -> None:
        self.version = version
        self._n, self._every_ms = n, every_ms
        self._last_ms: dict[int, int] = {}  # by partition
        self._first: list[float] = []
        self._latest: deque[float] = deque(maxlen=n)
        self._edges = np.zeros(0)
        self._then = np.zeros(BINS)

    def add(self, topic: str, partition: int, records: Sequence[Any]) -> None:
        """Take in records of `feedback`; what is no such record, or another release's, says nothing."""
        for record in records:
            try:
                told = _decode(record.value or b"")
            except UNDECODABLE:
                continue
            if told.model_version != self.version or told.correction:
                continue
            at_ms, last_ms = told.timestamp_ms, self._last_ms.get(partition)
            if last_ms is None or abs(at_ms - last_ms) >= self._every_ms:
                self._last_ms[partition] = at_ms
                self._take([item.score for item in told.slate])

    def _take(self, scores: list[float]) -> None:
        if len(self._first) < self._n:
            self._first += scores
            if len(self._first) >= self._n:
                self._begin_with(np.array(self._first))
        else:
            self._latest.extend(scores)

    def _begin_with(self, scores: NDArray[np.float64]) -> None:
        self._edges = np.quantile(scores, np.arange(1, BINS) / BINS)
        self._then = self._counts(scores)

    def _counts(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        bins = np.searchsorted(self._edges, scores, side="right")
        return np.bincount(bins, minlength=BINS).astype(np.float64)

    @property
    def index(self) -> float | None:
        """The population stability index; None while either side has too few scores."""
        if len(self._latest) < self._n:
            return None
        return population_stability(self._counts(np.array(self._latest)), self._then)

    def rebase(self) -> None:
        """Compare with the latest scores from now on: what these have led to has been done."""
        self._begin_with(np.array(self._latest))
        self._latest.clear()
