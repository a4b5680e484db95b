"""Slates of the last days and their rewards, from `feedback`, which teach a new release's policy."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_core.signals.horizons import DAY_MS
from online_learning.attribution.cascade import looked_at
from online_learning.statistics.position_bias import PositionStatistics, examination, power_law
from streams.commands.training_log import read_held
from streams.events import MAX_SLATE, UNDECODABLE
from streams.kafka.partitioner import partition_of
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_partitions, topics_of_worker
from streams.settings import Settings

MAX_SLATES = 20_000
"""Most slates used, the latest: a policy has a few dozen weights, and each slate is scored anew."""


class _Item(msgspec.Struct, gc=False):
    item_id: str
    score: float


class SlateRecord(msgspec.Struct, gc=False):
    """The fields of `Feedback` that are read."""

    request_id: str
    user_id: str
    slate: list[_Item]
    rewards: list[float]
    actions: list[list[str]]
    timestamp_ms: int

    @property
    def fits(self) -> bool:
        """Whether it is a slate's, with as much of everything as there are positions."""
        return len(self.slate) == len(self.rewards) == len(self.actions) <= MAX_SLATE


_decode = msgspec.json.Decoder(SlateRecord).decode


@dataclass(frozen=True, slots=True)
class Shown:
    """A slate and what it earned.

    weights : (k,) float64, chance that each position was looked at
    taken : (k,) bool, positions that earned something; values : (k,) float64, what is learned of those
    """

    user_id: str
    item_ids: tuple[str, ...]
    timestamp_ms: int
    weights: NDArray[np.float64]
    taken: NDArray[np.bool_]
    values: NDArray[np.float64]


class Rewarding:
    """Says what a slate's record teaches: what a worker with the same settings makes of the slate."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._positive = frozenset(settings.positive_actions)

    def responded(self, record: SlateRecord) -> NDArray[np.bool_]:
        """Return which positions were responded to: (k,) bool."""
        return np.array([not self._positive.isdisjoint(actions) for actions in record.actions], np.bool_)

    def shown(self, record: SlateRecord, looked: NDArray[np.float64]) -> Shown:
        """Return the slate and what it earned.

        Parameters
        ----------
        looked : (MAX_SLATE,) float64, probability that each position is looked at
        """
        n, responded = len(record.slate), self.responded(record)
        weights = looked[:n].copy()
        if self._settings.click_model == "cascade":
            weights[looked_at(np.flatnonzero(responded).tolist(), n) :] = 0.0
        if self._settings.learn_from == "reward":
            taken, values = np.array([bool(actions) for actions in record.actions], np.bool_), record.rewards
        else:
            taken, values = responded, [self._quality(record, position) for position in range(n)]
        items = tuple(item.item_id for item in record.slate)
        amounts = np.array(values, np.float64)
        return Shown(record.user_id, items, record.timestamp_ms, weights, taken, amounts)

    def _quality(self, record: SlateRecord, position: int) -> float:
        """Share of its weight that a position's first response earned, 1 where time spent does not count.

        The record has the sum of what all actions earned. Those that are shaped by time spent are taken to
        have earned the same share each.
        """
        actions, weights = record.actions[position], self._settings.actions
        first = next((action for action in actions if action in self._positive), None)
        shaped = self._settings.dwell_half_ms
        if first is None or first not in shaped:
            return float(first is not None)
        whole = sum(weights[action] for action in actions if action in shaped)
        others = sum(weights.get(action, 0.0) for action in actions if action not in shaped)
        return float(np.clip((record.rewards[position] - others) / whole, 0.0, 1.0))


class ShownSlates:
    """Takes in records of `feedback`; of a slate that is told again, the last word counts.

    Parameters
    ----------
    is_held : whether a user is in quarantine: nothing is learned from that user's slates
    """

    def __init__(self, settings: Settings, *, is_held: Callable[[str], bool]) -> None:
        self._settings = settings
        self._is_held = is_held
        self._rewarding = Rewarding(settings)
        self._records: dict[str, SlateRecord] = {}

    def add(self, values: Iterable[bytes | None]) -> None:
        """Take in records; what is no such record says nothing."""
        for value in values:
            try:
                record = _decode(value or b"")
            except UNDECODABLE:
                continue
            if record.fits and not self._is_held(record.user_id):
                self._records[record.request_id] = record

    def slates(self, most: int = MAX_SLATES) -> list[Shown]:
        """Return the latest slates, in the order of their times."""
        ordered = sorted(self._records.values(), key=lambda one: (one.timestamp_ms, one.request_id))[-most:]
        looked = self._examination(ordered)
        return [self._rewarding.shown(record, looked) for record in ordered]

    def _examination(self, records: Sequence[SlateRecord]) -> NDArray[np.float64]:
        """Probability that each position is looked at: (MAX_SLATE,) float64."""
        bias = self._settings.position_bias
        if bias != "learned":
            return power_law(bias, MAX_SLATE)
        total = PositionStatistics()
        for one in records:
            total.add(np.array([item.score for item in one.slate]), self._rewarding.responded(one))
        return examination(total, MAX_SLATE)


def read_shown(settings: Settings, ends: Mapping[str, Sequence[int]], *, now_ms: int) -> list[Shown]:
    """Return what the slates of the last `trainer_refit_days` earned, as `feedback` says up to its `ends`."""
    return asyncio.run(_read(settings, ends["feedback"], now_ms)).slates()


async def read_quarantine(settings: Settings) -> Callable[[str], bool]:
    """Return what tells whether a user is in quarantine now, as `user-state` says."""
    held = [await read_held(settings, partition) for partition in range(settings.partitions)]
    return lambda user_id: held[partition_of(user_id, settings.partitions)].lasts(user_id)


async def _read(settings: Settings, ends: Sequence[int], now_ms: int) -> ShownSlates:
    found = ShownSlates(settings, is_held=await read_quarantine(settings))
    topic, n = topics_of_worker(settings)["feedback"], topic_partitions(settings, "feedback")
    since_ms = max(1, now_ms - int(DAY_MS * settings.trainer_refit_days))
    last = 1 + 2 * MAX_SLATES // n  # users are spread evenly; some are told again
    for partition in range(n):
        records: Any
        async for records in read_partition(settings, topic, partition, since_ms=since_ms, last=last):
            known = records[: int(np.searchsorted(records.offsets, ends[partition]))]
            found.add(record.value for record in known)
    return found
