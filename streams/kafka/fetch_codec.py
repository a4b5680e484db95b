"""Kafka's Fetch request and response (version 11) as bytes, each by a few calls.

aiokafka describes messages field by field and calls Python for each field of each partition. A consumer
sends one such request after the other with all its partitions, most of them idle: it would do little else.
"""

from io import BytesIO
from struct import Struct
from typing import Any

from aiokafka.protocol.api import RequestHeader_v1, ResponseHeader_v0
from aiokafka.protocol.fetch import FetchRequest

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


class Answer:
    """A response: by topic the partition, error, high watermark, and the rest in the order of the format."""

    API_VERSION = VERSION

    def __init__(self, topics: Topics) -> None:
        self.topics = topics

    @classmethod
    def decode(cls, data: BytesIO) -> "Answer":
        """Read a response from where its header ends."""
        view = data.getbuffer()
        *_, n_topics = _ANSWER_HEAD.unpack_from(view, data.tell())
        at = data.tell() + _ANSWER_HEAD.size
        topics: Topics = []
        for _ in range(n_topics):
            name, at = _text(view, at)
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
                partitions.append((*front, aborted, replica, bytes(view[at : at + size])))
                at += size
            topics.append((name, partitions))
        return cls(topics)


class _Asked:
    """A request as aiokafka's connection wants to see it."""

    API_KEY, API_VERSION = FetchRequest.API_KEY, VERSION
    RESPONSE_TYPE = Answer

    def __init__(self, data: bytes) -> None:
        self._data = data

    def build_request_header(self, correlation_id: int, client_id: str) -> RequestHeader_v1:
        return RequestHeader_v1(self, correlation_id=correlation_id, client_id=client_id)

    def parse_response_header(self, data: BytesIO) -> Any:
        return ResponseHeader_v0.decode(data)

    def encode(self) -> bytes:
        return self._data


class QuickFetchRequest(FetchRequest):
    """aiokafka's request, which encodes itself where the broker knows the version."""

    def prepare(self, versions: dict[int, tuple[int, int]]) -> Any:
        """Return what goes over the wire; aiokafka's own to a broker that is too old or too new."""
        least, most = versions.get(self.API_KEY, (0, 0))
        return _Asked(self.to_bytes()) if least <= VERSION <= most else super().prepare(versions)

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


def _text(view: memoryview, at: int) -> tuple[str, int]:
    (size,) = _SIZE.unpack_from(view, at)
    end = at + _SIZE.size + size
    return str(view[at + _SIZE.size : end], "utf-8"), end
