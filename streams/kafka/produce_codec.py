"""Kafka's Produce request and response (version 7) as bytes, each by a few calls; see `fetch_codec`."""

from io import BytesIO
from struct import Struct
from typing import Any

from aiokafka.protocol.produce import ProduceRequest

from streams.kafka.quick_requests import QuickRequest, text

VERSION = 7

_HEAD = Struct(">hii")  # acknowledgements, time-out, topics
_SIZE, _COUNT = Struct(">h"), Struct(">i")
_PARTITION = Struct(">ii")  # partition, bytes
_ANSWER = Struct(">ihqqq")  # partition, error, offset, timestamp, log start


class Answer:
    """A response: by topic the partition, error, offset, timestamp and where the log starts."""

    API_VERSION = VERSION

    def __init__(self, topics: list[tuple[str, list[tuple[Any, ...]]]]) -> None:
        self.topics = topics

    @classmethod
    def decode(cls, data: BytesIO) -> "Answer":
        """Read a response from where its header ends."""
        view = data.getbuffer()
        (n_topics,) = _COUNT.unpack_from(view, data.tell())
        at = data.tell() + _COUNT.size
        topics: list[tuple[str, list[tuple[Any, ...]]]] = []
        for _ in range(n_topics):
            name, at = text(view, at)
            (n,) = _COUNT.unpack_from(view, at)
            at += _COUNT.size
            end = at + n * _ANSWER.size
            topics.append((name, list(_ANSWER.iter_unpack(view[at:end]))))
            at = end
        return cls(topics)


class QuickProduceRequest(ProduceRequest):
    """aiokafka's request, which encodes itself where the broker knows the version."""

    def prepare(self, versions: dict[int, tuple[int, int]]) -> Any:
        """Return what goes over the wire; aiokafka's own to a broker that is too old or too new."""
        least, most = versions.get(self.API_KEY, (0, 0))
        if not least <= VERSION <= most:
            return super().prepare(versions)
        return QuickRequest(self.API_KEY, VERSION, self.to_bytes(), Answer)

    def to_bytes(self) -> bytes:
        """Encode the request."""
        pieces: list[bytes | bytearray] = []
        if self._transactional_id is None:
            pieces.append(_SIZE.pack(-1))
        else:
            name = self._transactional_id.encode()
            pieces += [_SIZE.pack(len(name)), name]
        pieces.append(_HEAD.pack(self._required_acks, self._timeout, len(self._topics)))
        for topic, partitions in self._topics:
            name = topic.encode()
            pieces += [_SIZE.pack(len(name)), name, _COUNT.pack(len(partitions))]
            for partition, records in partitions:
                pieces += [_PARTITION.pack(partition, len(records)), records]
        return b"".join(pieces)
