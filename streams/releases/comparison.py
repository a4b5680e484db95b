"""Compares what the slates of a canary and of the live release earn, from `feedback`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_learning.experiments.sequential import difference_of_ratios
from streams.events import UNDECODABLE
from streams.experiments.shares import in_share
from streams.kafka.progress import RecentIds
from streams.releases.changes import Gate, ReleaseChange
from streams.state.item_index import keys_of

GROUPS = 2048
"""Groups of users, made by hash, whose totals are kept: as many as give the error of a mean, and no more."""
MIN_GROUPS = 30
"""With a slate, of either side, before a normal approximation is worth anything."""
ALPHA = 0.05
PLAN = 10
"""Times the least slates at which the interval is tightest."""
REMEMBERED = 10_000
"""Slates of a partition that are known when they are told again, after a worker has died."""
LIVE, CANARY = 0, 1


class _Record(msgspec.Struct, gc=False):
    """The fields of `Feedback` that are read."""

    request_id: str
    user_id: str
    model_version: str
    rewards: list[float] = []
    correction: bool = False


_decode = msgspec.json.Decoder(_Record).decode


@dataclass(frozen=True, slots=True)
class Outcome:
    """The decision on a canary, and the reason."""

    promote: bool
    gate: Gate


class Comparison:
    """Slates of the users of a canary's share, and of all others, as far as they have closed.

    A slate counts for the canary if it made it for a user of its share, and for the live release if that made
    it for another user: users who are moved meanwhile count for neither. Of a partition the live release's
    count from the canary's first on, so that both are of the same time. Corrections come too late for either.
    What is known is a function of the records alone: whoever reads them again knows the same.

    Parameters
    ----------
    begun : the record by which the canary began
    live : version that it is compared with

    Attributes
    ----------
    slates, earned : (2, GROUPS) float64 by side and group of users
    """

    def __init__(self, begun: ReleaseChange, live: str) -> None:
        assert begun.trial is not None
        self.begun = begun
        self._trial = begun.trial
        self._versions = live, begun.version
        self._recent: dict[int, RecentIds] = {}  # by partition in which the canary has made a slate
        self.slates = np.zeros((2, GROUPS))
        self.earned = np.zeros((2, GROUPS))

    def add(self, topic: str, partition: int, records: Sequence[Any]) -> None:
        """Take in records of `feedback`; what is no such record says nothing."""
        found = [one for record in records if (one := self._read(record.value)) is not None]
        inside = in_share([one.user_id for one in found], self.begun.version, self._trial.share)
        groups = keys_of(one.user_id for one in found) % np.uint64(GROUPS)
        for one, canary, group in zip(found, inside.tolist(), groups.tolist(), strict=True):
            side = CANARY if canary else LIVE
            if one.model_version != self._versions[side]:
                continue
            if canary:
                self._recent.setdefault(partition, RecentIds(REMEMBERED))
            recent = self._recent.get(partition)
            if recent is not None and recent.add(one.request_id):
                self.slates[side, group] += 1.0
                self.earned[side, group] += sum(one.rewards)

    def _read(self, value: bytes | None) -> _Record | None:
        try:
            record = _decode(value or b"")
        except UNDECODABLE:
            return None
        return None if record.correction or record.model_version not in self._versions else record

    @property
    def counted(self) -> NDArray[np.float64]:
        """Slates of the live release and of the canary, (2,) float64."""
        found: NDArray[np.float64] = self.slates.sum(axis=1)
        return found

    def figures(self) -> dict[str, float]:
        """Return what a slate of either earns, and the canary's lead with its always-valid interval."""
        slates, earned = self.counted, self.earned.sum(axis=1)
        live, canary = earned / np.maximum(slates, 1.0)
        found = difference_of_ratios(
            (self.earned[LIVE], self.slates[LIVE]), (self.earned[CANARY], self.slates[CANARY]),
            max(1.0, slates[CANARY]), alpha=ALPHA, plan=PLAN * self._trial.least_slates,
        )  # fmt: skip
        return {
            "live": float(live), "canary": float(canary), "lead": float(found.estimate),
            "low": float(found.low), "high": float(found.high),
            "live_slates": float(slates[LIVE]), "canary_slates": float(slates[CANARY]),
        }  # fmt: skip

    def outcome(self, now_ms: int) -> Outcome | None:
        """Return what is to become of the canary; None while that is not known."""
        trial, over = self._trial, now_ms - self.begun.timestamp_ms >= 1000 * self._trial.longest_s
        slates, groups = self.counted, np.count_nonzero(self.slates, axis=1)
        few = slates.min() < trial.least_slates or groups.min() < MIN_GROUPS
        if few or not self.earned[LIVE].any():  # of nothing earned no error is known
            if not over:
                return None
            said = (
                f"within {trial.longest_s / 3600:g} h {slates[CANARY]:.0f} slates of the canary and "
                f"{slates[LIVE]:.0f} of the live release have closed, and these have earned "
                f"{self.earned[LIVE].sum():g}: at least {trial.least_slates} of either, of {MIN_GROUPS} "
                "users, are asked for, and that something was earned"
            )
            counts = {"live_slates": float(slates[LIVE]), "canary_slates": float(slates[CANARY])}
            return Outcome(False, Gate("canary", False, said, counts))
        found = self.figures()
        least = -trial.harm * abs(found["live"])
        if found["high"] < 0.0:
            promote, said = False, "surely less"
        elif found["low"] >= least:
            promote, said = True, f"surely not less by {trial.harm:.0%}"
        elif over:
            promote = found["lead"] >= 0.0
            said = f"on average {'not ' if promote else ''}less after {trial.longest_s / 3600:g} h"
        else:
            return None
        reason = (
            f"a slate of the canary earns {found['canary']:.4f}, {found['lead']:+.4f} "
            f"[{found['low']:+.4f}, {found['high']:+.4f}] to {self._versions[LIVE]}: {said}; "
            f"{found['canary_slates']:.0f} and {found['live_slates']:.0f} slates"
        )
        return Outcome(promote, Gate("canary", promote, reason, found))
