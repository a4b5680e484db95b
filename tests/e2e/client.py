"""A client that shares no code with the worker's transport: kafka-python, one record at a time."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Self, TypeVar

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

from streams import events
from streams.events import Click, Content, Feedback, Recommendation, Request
from streams.kafka.options import kafka_client_options
from streams.kafka.topics import topic_name, topic_partitions
from streams.settings import Settings

DEADLINE_S = 120.0  # a machine may be slow, and busy with other tests
FLUSH_S = 60.0
CLOSE_S = 5.0
T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, *, timeout_s: float = DEADLINE_S) -> T:
    """Poll until the condition holds; fail with `what` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s:.0f} s still not: {what}")
        time.sleep(0.02)


def contributed(answer: dict[str, Any]) -> float:
    """What an explanation's base and contributions sum to."""
    return float(answer["base"]) + sum(one["value"] for one in answer["contributions"])


class Client:
    """Publishes events and collects what the worker publishes."""

    def __init__(self, settings: Settings, *, now_ms: int | None = None) -> None:
        self.settings = settings
        self.now_ms = now_ms or int(time.time() * 1000)
        self._options = kafka_client_options(settings)
        self.producer = self._new_producer()
        self._unconfirmed: list[tuple[Any, dict[str, Any]]] = []
        self._consumers: dict[str, KafkaConsumer] = {}
        self._records: dict[str, list[Any]] = {}
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_producer(CLOSE_S)
        for consumer in self._consumers.values():
            consumer.close()

    # Publishing

    def _new_producer(self) -> KafkaProducer:
        return KafkaProducer(**self._options, acks="all", max_request_size=4 * 1024 * 1024)

    def _close_producer(self, timeout_s: float) -> None:
        """Close it; what it has not sent by then is not waited for."""
        with suppress(KafkaTimeoutError):
            self.producer.close(timeout=timeout_s)

    def send(self, topic: str, key: str | bytes | None, value: Any, *, partition: int | None = None) -> None:
        """Publish one record; structs are encoded, bytes and None go out as they are."""
        raw = value if value is None or isinstance(value, bytes) else events.encode(value)
        name = key.encode() if isinstance(key, str) else key
        record = {
            "topic": topic_name(self.settings, topic),
            "value": raw,
            "key": name,
            "partition": partition,
        }
        self._unconfirmed.append((self.producer.send(**record), record))

    def flush(self) -> None:
        """Return once the broker has acknowledged everything sent.

        A producer to which a broker has said an error that it does not know, as one whose disk is full does,
        sends nothing any more, or nothing but the same again: another one sends what is left.
        """
        with suppress(KafkaTimeoutError):
            self.producer.flush(FLUSH_S)
        left = [record for future, record in self._unconfirmed if not future.succeeded()]
        self._unconfirmed = []
        if left:
            self._close_producer(0)
            self.producer = self._new_producer()
            self._unconfirmed = [(self.producer.send(**record), record) for record in left]
            self.producer.flush(DEADLINE_S)
            assert all(future.succeeded() for future, _ in self._unconfirmed), "the broker takes no records"
            self._unconfirmed = []

    def content(self, *items: Content) -> None:
        for item in items:
            self.send("content", item.item_id, item)
        self.flush()

    def click(self, user_id: str, item_id: str, action: str = "like", **fields: Any) -> Click:
        """Publish a click; the caller flushes."""
        self._count += 1
        self.now_ms += 1000
        values = {
            "event_id": f"e{self._count}",
            "user_id": user_id,
            "item_id": item_id,
            "action": action,
            "timestamp_ms": self.now_ms,
        }
        click = Click(**(values | fields))
        self.send("clicks", click.user_id, click)
        return click

    def request(self, user_id: str, **fields: Any) -> str:
        """Publish a request and return its id."""
        self._count += 1
        values = {"request_id": f"r{self._count}", "user_id": user_id, "timestamp_ms": self.now_ms}
        request = Request(**(values | fields))
        self.send("requests", user_id, request)
        self.flush()
        return request.request_id

    def ask(self, user_id: str, *, timeout_s: float = DEADLINE_S, **fields: Any) -> Recommendation:
        """Request a slate and wait for it."""
        return self.recommendation(self.request(user_id, **fields), timeout_s=timeout_s)

    # Collecting

    def records(self, topic: str) -> list[Any]:
        """Every record of a topic so far, in the order of arrival."""
        if topic not in self._consumers:
            consumer = KafkaConsumer(
                **self._options,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                isolation_level="read_committed",
            )
            name = topic_name(self.settings, topic)
            count = topic_partitions(self.settings, topic)
            consumer.assign([TopicPartition(name, partition) for partition in range(count)])
            self._consumers[topic], self._records[topic] = consumer, []
        for fetched in self._consumers[topic].poll(timeout_ms=50, max_records=100_000).values():
            self._records[topic] += fetched
        return self._records[topic]

    def recommendations(self) -> list[Recommendation]:
        return [events.decode_recommendation(record.value) for record in self.records("recommendations")]

    def recommendation(self, request_id: str, *, timeout_s: float = DEADLINE_S) -> Recommendation:
        """Wait for the slate of a request."""

        def find() -> Recommendation | None:
            found = [slate for slate in self.recommendations() if slate.request_id == request_id]
            return found[0] if found else None

        return wait_until(find, f"request {request_id} answered", timeout_s=timeout_s)

    def feedback(self) -> list[Feedback]:
        return [events.decode_feedback(record.value) for record in self.records("feedback")]

    def dead_letters(self) -> list[events.DeadLetter]:
        return [events.decode_dead_letter(record.value) for record in self.records("dead-letters")]


def item_ids(slate: Recommendation) -> list[str]:
    return [item.item_id for item in slate.slate]


def film(item_id: str, title: str, **attributes: Iterable[str]) -> Content:
    return Content(item_id, title, attributes={name: list(values) for name, values in attributes.items()})
