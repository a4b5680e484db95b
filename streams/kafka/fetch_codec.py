"""Kafka's Fetch request and response (version 11) as bytes, each by a few calls.

aiokafka describes messages field by field and calls Python for each field of each partition. A consumer
sends one such request after the other with all its partitions, most of them idle: it would do little else.
"""

import time
from io import BytesIO
from struct import Struct
from typing import Any

from aiokafka.protocol.fetch import FetchRequest

from streams.kafka.quick_requests import QuickRequest, text

VERSION = 11

# Replica, wait, least and most bytes, isolation, session and its epoch, topics.
_HEAD = Struct(">iiiibiii")
_NO_SESSION = (0, -1)
_PARTITION = Struct(">iiqqi")  # partition, leader epoch, offset, log start, most bytes
_SIZE, _COUNT = Struct(">h"), Struct(">i")
_ANSWER_HEAD = Struct(">ihii")  # throttling, error, session, topics
_ANSWER = Struct(">ihqqqi")  # partition, error, high watermark, last stable offset, log start, aborted
_ABORTED = Struct(">qq")  # producer, first offset
_RECORDS = Struct(">ii")  # preferred replica, bytes

Topics = list[tuple[str, list[tuple[Any, ...]]]]


class ReadEnds(dict[tuple[str, int], int]):
    """End offsets at the time a broker read partitions for a response, by topic and partition.

    Attributes
    ----------
    asked_s : when that was asked for, of `time.monotonic`; the broker read later
    """

    __slots__ = ("asked_s",)

    def __init__(self, asked_s: float) -> None:
        super().__init__()
        self.asked_s = asked_s


class Fetched:
    """The records of one partition.

    Attributes
    ----------
    data : record batches as they came
    ends : by topic and partition, where each partition of the same response ended when it was read: what may
        be read of it are the records before that offset. A broker reads them in the order of the request.
    """

    __slots__ = ("data", "ends")

    def __init__(self, data: bytes, ends: ReadEnds) -> None:
        self.data = data
        self.ends = ends


class Answer:
    """A response: by topic the partition, error, high watermark, and the rest in the order of the format.

    The last of a partition is a `Fetched`.
    """

    API_VERSION = VERSION

    def __init__(self, topics: Topics) -> None:
        self.topics = topics

    @classmethod
    def decode(cls, data: BytesIO, *, asked_s: float) -> "Answer":
        """Read a response from where its header ends; asked_s: see `ReadEnds`."""
        view = data.getbuffer()
        *_, n_topics = _ANSWER_HEAD.unpack_from(view, data.tell())
        at = data.tell() + _ANSWER_HEAD.size
        topics: Topics = []
        ends = ReadEnds(asked_s)
        for _ in range(n_topics):
            name, at = text(view, at)
            (n,) = _COUNT.unpack_from(view, at)
            at += _COUNT.size
            partitions: list[tuple[Any, ...]] = []
            for _ in range(n):
                *front, n_aborted = _ANSWER.unpack_from(view, at)
                at += _ANSWER.size
                aborted = []
                for _ in range(n_aborted):
                    aborted.append(_ABORTED.unpack_from(view, at))
                    at += _ABORTED.size
                replica, size = _RECORDS.unpack_from(view, at)
                at += _RECORDS.size
                size = max(size, 0)
                partition, error, _, end, _ = front
                if not error:
                    ends[name, partition] = end
                partitions.append((*front, aborted, replica, Fetched(bytes(view[at : at + size]), ends)))
                at += size
            topics.append((name, partitions))
        return cls(topics)


class _AnswerTo:
    """Reads the response to a request that is sent now."""

    def __init__(self) -> None:
        self._asked_s = time.monotonic()

    def decode(self, data: BytesIO) -> Answer:
        return Answer.decode(data, asked_s=self._asked_s)


class QuickFetchRequest(FetchRequest):
    """aiokafka's request, which encodes itself where the broker knows the version."""

    def prepare(self, versions: dict[int, tuple[int, int]]) -> Any:
        """Return what goes over the wire; aiokafka's own to a broker that is too old or too new."""
        least, most = versions.get(self.API_KEY, (0, 0))
        return (
            QuickRequest(self.API_KEY, VERSION, self.to_bytes(), _AnswerTo())
            if least <= VERSION <= most
            else super().prepare(versions)
        )

    def to_bytes(self) -> bytes:
        """Encode the request."""
        pieces = [
            _HEAD.pack(
                -1, self._max_wait_ms, self._min_bytes, self._max_bytes, self._isolation_level, *_NO_SESSION,
                len(self._topics),
            )
        ]  # fmt: skip
        for topic, partitions in self._topics:
            name = topic.encode()
            pieces += [_SIZE.pack(len(name)), name, _COUNT.pack(len(partitions))]
            pieces += [_PARTITION.pack(p, -1, offset, -1, most) for p, offset, most in partitions]
        rack = self._rack_id.encode()
        pieces += [_COUNT.pack(0), _SIZE.pack(len(rack)), rack]
        return b"".join(pieces)
