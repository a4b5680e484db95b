"""The topics: one table of what each should be, and what is said of those that are not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from streams.errors import TopicError
from streams.settings import Settings

_MINUTE_MS = 60_000
DAY_MS = 24 * 60 * _MINUTE_MS
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """Specification of a topic.

    Attributes
    ----------
    name : str
        Without the prefix; `topic_name` puts it before.
    cleanup : str
        "delete" after `retention_ms`, or "compact" to the last row of each key.
    retention_ms : int or None
        How long a record is kept; None for a compacted topic.
    partitions : int or None
        A fixed count, or None for `settings.partitions`. Every topic keyed by user must have the same
        count as the others: partition p of each belongs to shard p.
    max_message_bytes : int
        The largest record batch that the broker takes.
    """

    name: str
    cleanup: Literal["delete", "compact"]
    retention_ms: int | None = None
    partitions: int | None = None
    max_message_bytes: int = 2 * _MIB

    def config(self, settings: Settings) -> dict[str, str]:
        """Return the topic's configuration in the broker's words."""
        config = {
            "cleanup.policy": self.cleanup,
            "max.message.bytes": str(self.max_message_bytes),
            # The broker stamps records on arrival. So the clock of a producer or a worker, or a replay of old
            # events, cannot make retention drop fresh records, nor have a broker refuse those of the future.
            "message.timestamp.type": "LogAppendTime",
            "min.insync.replicas": "2" if settings.replication_factor >= 3 else "1",
        }
        if self.cleanup == "compact":
            # The active segment is never compacted, and a restore reads all that is not: so segments are
            # small. An erased user is gone from the disk a day after the tombstone, at the latest.
            config |= {
                "segment.bytes": str(64 * _MIB),
                "segment.ms": str(60 * _MINUTE_MS),
                "min.cleanable.dirty.ratio": "0.2",
                "max.compaction.lag.ms": str(DAY_MS),
                "delete.retention.ms": str(DAY_MS),
            }
        else:
            config["retention.ms"] = str(self.retention_ms)
        return config


TOPICS: Mapping[str, TopicSpec] = {
    spec.name: spec
    for spec in (
        TopicSpec("clicks", "delete", retention_ms=90 * DAY_MS),
        TopicSpec("content", "compact", max_message_bytes=4 * _MIB),  # images and sounds as bytes
        TopicSpec("users", "compact"),
        TopicSpec("requests", "delete", retention_ms=DAY_MS),
        TopicSpec("recommendations", "delete", retention_ms=7 * DAY_MS),
        TopicSpec("feedback", "delete", retention_ms=90 * DAY_MS),
        TopicSpec("dead-letters", "delete", retention_ms=30 * DAY_MS, partitions=1),
        TopicSpec("item-state", "compact"),
        TopicSpec("user-state", "compact"),
        TopicSpec("policy-state", "compact"),
        TopicSpec("model-releases", "compact", partitions=1),
        TopicSpec("experiments", "compact", partitions=1),
    )
}


UNTOLD = "not told by the broker"
COSTS_ONLY = ("segment.bytes", "segment.ms", "min.cleanable.dirty.ratio")  # a restore reads more
AT_LEAST = ("max.message.bytes", "replication factor")
LOSES = ("cleanup.policy", "message.timestamp.type", "min.insync.replicas", *AT_LEAST)
"""Settings by which records may be lost or refused; `retention.ms` is another, where it is shorter."""


@dataclass(frozen=True, slots=True)
class TopicDifference:
    """One property of a topic that is not as wanted; `actual` is None when the topic is missing.

    foreign tells that it is another's topic, which a mapping names.
    """

    topic: str
    setting: str
    wanted: str
    actual: str | None
    foreign: bool = False

    @property
    def harmless(self) -> bool:
        """Whether a worker keeps its promises all the same, as on clusters that overrule what topics are."""
        if self.actual is None:
            return False
        more = self.actual.isdecimal() and self.wanted.isdecimal() and int(self.actual) > int(self.wanted)
        return self.actual == UNTOLD or self.setting in COSTS_ONLY or (self.setting in AT_LEAST and more)

    @property
    def loses(self) -> bool:
        """Whether records may be lost or refused by it: a worker tells of that, and of nothing else."""
        if self.setting == "retention.ms" and self.actual not in (None, UNTOLD):
            return 0 <= int(self.actual) < int(self.wanted)
        return self.setting in LOSES and not self.harmless


def topic_name(settings: Settings, name: str) -> str:
    """Return the topic's name on the broker: the prefix of the settings and `name` of the table."""
    if name not in TOPICS:
        raise ValueError(f"name must be one of {', '.join(TOPICS)}, got {name!r}")
    return settings.topic_prefix + name


def topic_names(settings: Settings) -> dict[str, str]:
    """Return every topic's name on the broker by its name of the table."""
    return {name: topic_name(settings, name) for name in TOPICS}


def fed_directly(settings: Settings) -> dict[str, str]:
    """Return the topics of others that are read in the place of ours, by the name of ours."""
    return {source.feeds: source.topic for source in settings.sources if not source.repartition}


def our_topics(settings: Settings) -> dict[str, str]:
    """Return names of our topics by what they are called on the broker, but for those that others feed."""
    instead = fed_directly(settings)
    return {topic_name(settings, name): name for name in TOPICS if name not in instead}


def settings_differences(settings: Settings, found: Mapping[str, Mapping[str, str]]) -> list[TopicDifference]:
    """Compare the settings of topics of ours with what is wanted.

    Parameters
    ----------
    found : settings by full name of the topic, as brokers tell them; topics that are not in it are left out
    """
    return [
        TopicDifference(topic, key, wanted, found[topic].get(key, UNTOLD))
        for topic, name in our_topics(settings).items()
        if topic in found
        for key, wanted in TOPICS[name].config(settings).items()
        if found[topic].get(key, UNTOLD) != wanted
    ]


def topics_of_worker(settings: Settings) -> dict[str, str]:
    """Return what a worker reads and writes, by name: our topics, but for inputs fed by others directly."""
    return topic_names(settings) | fed_directly(settings)


def topic_partitions(settings: Settings, name: str) -> int:
    """Return how many partitions the topic should have."""
    fixed = TOPICS[name].partitions
    return settings.partitions if fixed is None else fixed


def fault(difference: TopicDifference) -> str:
    """Say what is wrong, and what to do about it."""
    if difference.actual is None and difference.foreign:
        return "missing: the mapping reads it, and whoever writes it makes it"
    if difference.actual is None:
        return "missing: run `slatestream topics create`"
    if difference.foreign:
        return (
            f"{difference.setting} is {difference.actual}, wanted {difference.wanted}: set `partitions`, or "
            "repartition = true in the mapping"
        )
    said = f"{difference.setting} is {difference.actual}, wanted {difference.wanted}"
    return f"{said} (harmless)" if difference.harmless else said


def layout_differences(settings: Settings, found: Mapping[str, int]) -> list[TopicDifference]:
    """Compare which topics there are, and their partitions, with what a worker needs.

    Parameters
    ----------
    found : number of partitions of every topic of the cluster
    """
    wanted = {full: topic_partitions(settings, name) for name, full in topics_of_worker(settings).items()}
    foreign = {source.topic for source in settings.sources}
    # One that is read by a group of its own may have as many partitions as it likes.
    wanted |= {topic: found.get(topic, 0) for topic in foreign - wanted.keys()}
    differences = []
    for topic, partitions in wanted.items():
        if topic not in found:
            differences.append(TopicDifference(topic, "topic", "exists", None, topic in foreign))
        elif found[topic] != partitions:
            numbers = str(partitions), str(found[topic])
            differences.append(TopicDifference(topic, "partitions", *numbers, topic in foreign))
    return differences


def refuse_unusable(differences: Iterable[TopicDifference]) -> None:
    """Check what a worker cannot do without: every topic exists, with the wanted partitions.

    Raises
    ------
    TopicError
        Naming what differs and what to do. Other differences are for `slatestream topics describe`.
    """
    fatal = [d for d in differences if d.actual is None or d.setting == "partitions"]
    if fatal:
        lines = "\n  ".join(f"{difference.topic}: {fault(difference)}" for difference in fatal)
        raise TopicError(f"the topics are not as a worker needs them:\n  {lines}")
