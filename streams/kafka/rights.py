"""What a worker may do with each topic: the rights that it is given, and those that it cannot do without."""

from collections.abc import Iterator

from streams.kafka.layout import Layout
from streams.kafka.topics import TOPICS, topic_name, topics_of_worker
from streams.settings import Settings

STATE = ("item-state", "user-state", "policy-state")
"""Topics that a worker both writes and reads back."""
WRITTEN = (*STATE, "recommendations", "feedback", "dead-letters", "model-releases")
NOT_READ = ("dead-letters",)
"""Slates are read, for those that are still open after a restart and for who asks once more; feedback, for
what the slates of a canary have earned, and what those of erased users have taught."""
SPARED = {("feedback", "Read"), ("model-releases", "Write"), *((name, "DescribeConfigs") for name in TOPICS)}
"""Without these it serves: no canary is decided, what erased users taught stays, what becomes of a release is
in the log only, and nobody is told of topics whose settings lose records."""
NO_RIGHT = "the worker's user has no right to"
CODES = {"Read": 3, "Write": 4, "Describe": 8, "DescribeConfigs": 10}


def topic_rights(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return what a worker may do with our topics, by name of the table."""
    fed = {source.feeds for source in settings.sources if source.repartition}
    return {
        name: (
            *(("Read",) if name not in NOT_READ else ()),
            *(("Write",) if name in WRITTEN or name in fed else ()),
            "Describe",
            "DescribeConfigs",
        )
        for name in TOPICS
    }


def used_topics(settings: Settings) -> set[str]:
    """Return the full names of the topics that a worker uses, mapped ones of others too."""
    return {*topics_of_worker(settings).values(), *(source.topic for source in settings.sources)}


def missing_rights(settings: Settings, layout: Layout) -> Iterator[str]:
    """Say which rights are missing that a worker cannot do without, and on what.

    Parameters
    ----------
    layout : with what may be done with each topic; topics of which brokers do not say it are passed over
    """
    wanted = {topic_name(settings, name): (name, rights) for name, rights in topic_rights(settings).items()}
    wanted |= {source.topic: (source.topic, ("Read",)) for source in settings.sources}
    used = used_topics(settings)
    for full, (name, rights) in wanted.items():
        if full not in used or full not in layout or not _may(layout[full].operations, "Describe"):
            continue
        for right in rights:
            if (name, right) not in SPARED and not _may(layout[full].operations, right):
                yield f"{full}: {NO_RIGHT} {right}"


def writer_id(settings: Settings, partition: int) -> str:
    """Return the transactional id of whoever writes the state of a partition."""
    return f"{settings.topic_prefix}{settings.group_id}-state-{partition}"


def no_right_to_write(transactional_id: str) -> str:
    """Say that a worker may not write under a transactional id."""
    return f"transactional id {transactional_id}: {NO_RIGHT} Write"


def _may(operations: int, right: str) -> bool:
    return operations >= 0 and bool(operations >> CODES[right] & 1)
