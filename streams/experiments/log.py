"""The record of an experiment: its slates on `recommendations`, and what they earned on `feedback`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_learning.experiments.interleaving import preferences
from online_learning.experiments.summary import SlateColumns
from streams.events import UNDECODABLE
from streams.experiments.definition import Experiment, decode_experiment
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_name, topic_partitions
from streams.settings import Settings


class _Item(msgspec.Struct, gc=False):
    team: str | None = None


class _Record(msgspec.Struct, gc=False):
    """The fields that are read of `Recommendation` and `Feedback`; closed_ms is only in the latter."""

    request_id: str
    user_id: str
    slate: list[_Item]
    experiment: str | None = None
    variant: str | None = None
    rewards: list[float] = []
    actions: list[list[str]] = []
    latency_ms: float | None = None
    fallback: str | None = None
    closed_ms: int | None = None


_decode = msgspec.json.Decoder(_Record).decode


@dataclass(slots=True)
class _Slate:
    """A slate as far as it is known: seen_ms is the broker's time of its first record."""

    seen_ms: int
    user_id: str
    variant: str | None
    teams: list[str | None]
    latency_ms: float = np.nan
    fallback: bool = False
    closed: bool = False
    reward: float = 0.0
    taken: tuple[int, ...] = ()


class ExperimentLog:
    """Collects the slates of one experiment, each once, from records in any order.

    Parameters
    ----------
    experiment : whose slates are kept; records of others are passed over
    positive : actions that are a response
    """

    def __init__(self, experiment: Experiment, positive: Collection[str]) -> None:
        self._name = experiment.name
        self._variants = {variant.name: number for number, variant in enumerate(experiment.variants)}
        self._positive = frozenset(positive)
        self._slates: dict[str, _Slate] = {}

    def add(self, value: bytes | None, broker_ms: int) -> None:
        """Take in a record of either topic; what is no such record says nothing."""
        try:
            record = _decode(value or b"")
        except UNDECODABLE:
            return
        if record.experiment != self._name:
            return
        teams = [item.team for item in record.slate]
        slate = self._slates.setdefault(
            record.request_id, _Slate(broker_ms, record.user_id, record.variant, teams)
        )
        slate.seen_ms = min(slate.seen_ms, broker_ms)
        if record.latency_ms is not None:
            slate.latency_ms, slate.fallback = record.latency_ms, record.fallback is not None
        if record.closed_ms is not None:  # a correction takes the place of what was said before
            slate.closed, slate.reward = True, sum(record.rewards)
            taken = (p for p, actions in enumerate(record.actions) if not self._positive.isdisjoint(actions))
            slate.taken = tuple(taken)

    def _ordered(self) -> list[_Slate]:
        return sorted(self._slates.values(), key=lambda slate: slate.seen_ms)

    def columns(self) -> SlateColumns:
        """Return the slates of single variants, in the order in which they were shown."""
        slates = [slate for slate in self._ordered() if slate.variant in self._variants]
        return _columns(slates, [self._variants[slate.variant or ""] for slate in slates])

    def interleaved(self) -> tuple[SlateColumns, NDArray[np.int64]]:
        """Return the slates that two variants filled, as of one variant, and which team each speaks for.

        The latter is (n,) int64: -1 for the first variant, 1 for the second, 0 for neither.
        """
        slates = [slate for slate in self._ordered() if slate.variant is None]
        depth = max((len(slate.teams) for slate in slates), default=0)
        teams, credit = np.full((len(slates), depth), -1, np.int8), np.zeros((len(slates), depth))
        for row, slate in enumerate(slates):
            teams[row, : len(slate.teams)] = [self._variants.get(team or "", -1) for team in slate.teams]
            credit[row, list(slate.taken)] = 1.0
        return _columns(slates, [0] * len(slates)), preferences(teams, credit)


def _columns(slates: Sequence[_Slate], variants: Sequence[int]) -> SlateColumns:
    numbers: dict[str, int] = {}
    return SlateColumns(
        users=np.array([numbers.setdefault(slate.user_id, len(numbers)) for slate in slates], np.int64),
        variants=np.array(variants, np.int64),
        closed=np.array([slate.closed or not slate.teams for slate in slates], np.bool_),  # empty: earns 0
        rewards=np.array([slate.reward for slate in slates], np.float64),
        responses=np.array([len(slate.taken) for slate in slates], np.float64),
        latency_ms=np.array([slate.latency_ms for slate in slates], np.float64),
        fallback=np.array([slate.fallback for slate in slates], np.bool_),
        empty=np.array([not slate.teams for slate in slates], np.bool_),
    )


async def read_experiments(settings: Settings) -> dict[str, Experiment]:
    """Return every experiment that was ever started, by name, as it stands."""
    found: dict[str, Experiment] = {}
    async for records in read_partition(settings, topic_name(settings, "experiments"), 0):
        for record in records:
            try:
                experiment = decode_experiment(record.value or b"")
            except ValueError:
                continue  # workers say what is wrong with it
            found[experiment.name] = experiment
    return found


async def read_log(settings: Settings, experiment: Experiment) -> ExperimentLog:
    """Read the experiment's record from its start to now."""
    log = ExperimentLog(experiment, settings.positive_actions)
    for name in ("recommendations", "feedback"):
        for partition in range(topic_partitions(settings, name)):
            topic = topic_name(settings, name)
            async for records in read_partition(settings, topic, partition, since_ms=experiment.started_ms):
                for record in records:
                    log.add(record.value, record.timestamp)
    return log
