"""Existing topics: the id that a topic keeps as long as it lives, and its partitions."""

from collections.abc import Collection
from io import BytesIO
from struct import Struct
from typing import Any, NamedTuple
from uuid import UUID

from aiokafka.errors import IncompatibleBrokerVersion, NodeNotReadyError
from aiokafka.protocol.metadata import MetadataRequest

from streams.kafka.quick_requests import FlexibleRequest, after_tags, compact_text, number, varint

VERSION = 11  # of brokers since 2.8; topics have ids from then on

_NOBODY = bytes(16)
_CODE, _WORD, _PARTITION = Struct(">h"), Struct(">i"), Struct(">hiii")


class Topic(NamedTuple):
    """A topic of the cluster.

    id : another one when a topic of the same name was deleted and made anew; "" where brokers have no ids
    partitions : how many
    operations : what the client may do with it, one bit for each code of an operation; negative where that
        was not asked for
    """

    id: str
    partitions: int
    operations: int = -1


Layout = dict[str, Topic]


async def ask_layout(
    client: Any, topics: Collection[str], *, operations: bool = False, **where: Any
) -> Layout | None:
    """Ask any broker for some topics, by full name; those that do not exist are left out.

    None if the brokers are too old to know.

    Parameters
    ----------
    client : a connected `aiokafka.client.AIOKafkaClient`
    operations : ask what the client may do with them, too
    where : of its `send`

    Raises
    ------
    aiokafka.errors.KafkaError
        If it does not answer.
    """
    node = client.get_random_node()
    if node is None:
        raise NodeNotReadyError("no broker is known")
    try:
        answer: Answer = await client.send(node, request(topics, operations=operations), **where)
    except IncompatibleBrokerVersion:
        return None
    return answer.topics


def request(topics: Collection[str], *, operations: bool = False) -> FlexibleRequest:
    """Return the request for some topics; it makes none that is missing."""
    names = [name.encode() for name in topics]
    pieces = [varint(len(names) + 1)]
    pieces += [_NOBODY + varint(len(name) + 1) + name + b"\0" for name in names]
    return FlexibleRequest(
        MetadataRequest.API_KEY, VERSION, b"".join(pieces) + b"\0%c\0" % operations, Answer
    )


class Answer:
    """A response: the topics that exist."""

    def __init__(self, topics: Layout) -> None:
        self.topics = topics

    @classmethod
    def decode(cls, data: BytesIO) -> "Answer":
        """Read a response from where its header ends."""
        view = data.getbuffer()
        n, at = number(view, data.tell() + _WORD.size)  # after the throttling
        for _ in range(n - 1):  # brokers: id, host, port, rack
            _, at = compact_text(view, at + _WORD.size)
            _, at = compact_text(view, at + _WORD.size)
            at = after_tags(view, at)
        _, at = compact_text(view, at)  # the cluster
        n, at = number(view, at + _WORD.size)  # after the controller
        topics: Layout = {}
        for _ in range(n - 1):
            (error,) = _CODE.unpack_from(view, at)
            name, at = compact_text(view, at + _CODE.size)
            known = bytes(view[at : at + 16])
            partitions, at = _partitions(view, at + 17)  # after whether it is internal
            (operations,) = _WORD.unpack_from(view, at)
            at = after_tags(view, at + _WORD.size)
            if not error:
                topic_id = "" if known == _NOBODY else UUID(bytes=known).hex
                topics[name] = Topic(topic_id, partitions, operations)
        return cls(topics)


def _partitions(view: memoryview, at: int) -> tuple[int, int]:
    """Pass the partitions of a topic; return how many they are, and where the next field is."""
    n, at = number(view, at)
    for _ in range(n - 1):
        at += _PARTITION.size  # error, number, leader and its epoch
        for _ in range(3):  # replicas, those in sync, those offline
            size, at = number(view, at)
            at += _WORD.size * (size - 1)
        at = after_tags(view, at)
    return n - 1, at
