"""Requests over Kafka at a constant rate: `requests` in, `recommendations` out, one thread, librdkafka.

As "hop" it reads what it wrote itself: two ways through the broker and no worker, the calibration.
"""

import random
import time
from collections.abc import Callable

import msgspec
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition

from streams.bench.latency import Latencies, due
from streams.bench.work import Outcome, Work
from streams.events import Request, encode

CONNECT_S = 10.0
PRODUCER = {"linger.ms": "0", "acks": "all", "partitioner": "murmur2"}  # as every client partitions
CONSUMER = {
    "group.id": "none",  # required by librdkafka, and unused: nothing is committed
    "enable.auto.commit": "false",
    "fetch.wait.max.ms": "100",
    "fetch.error.backoff.ms": "10",
}


class Answered(msgspec.Struct):
    """What is read of a recommendation."""

    request_id: str
    fallback: str | None = None


def generate(work: Work, begin: Callable[[], float]) -> Outcome:
    """Send what is due, read what comes, until all are answered or the time is up."""
    rng = random.Random(work.seed)
    users = [f"u{rng.randrange(work.users)}" for _ in range(work.count)]
    mark = f"{work.seed:x}-{time.time_ns():x}-"
    producer = Producer({**work.client, **PRODUCER})
    consumer = _at_the_end(work)
    waiting: dict[str, float] = {}
    answers, late = Latencies(), Latencies()
    decode = msgspec.json.Decoder(Answered).decode
    fallbacks, sent, last = 0, 0, 0.0
    start = begin()
    deadline = start + due(work.count, work.rate) + work.drain_s
    while True:
        now = time.monotonic()
        while sent < work.count and start + due(sent, work.rate) <= now:
            user, name, moment = users[sent], f"{mark}{sent}", start + due(sent, work.rate)
            request = Request(name, user, int(time.time() * 1000), k=work.k)
            producer.produce(work.to, encode(request), user.encode())
            waiting[name] = moment
            late.add(time.monotonic() - moment)
            sent += 1
        producer.poll(0)
        now = time.monotonic()
        if now > deadline or (sent == work.count and not waiting):
            break
        until = start + due(sent, work.rate) if sent < work.count else deadline
        message = consumer.poll(max(0.0, until - now))
        value = None if message is None or message.error() else message.value()
        if value is None:
            continue
        came = time.monotonic()
        answer = decode(value)
        moment_due = waiting.pop(answer.request_id, None)
        if moment_due is not None:
            answers.add(came - moment_due)
            fallbacks += answer.fallback is not None
            last = came - start
    answered = answers.count
    for moment in waiting.values():
        answers.add(time.monotonic() - moment)
    consumer.close()
    return Outcome(
        sent=sent,
        answered=answered,
        unanswered=len(waiting),
        refused=0,
        fallbacks=fallbacks,
        seconds=last,
        late_ms=late.at(99.0),
        latencies=answers.encoded(),
    )


def _at_the_end(work: Work) -> Consumer:
    """Return a consumer that sees what is written to the answers' topic from now on."""
    consumer = Consumer({**work.client, **CONSUMER})
    ends = []
    for partition in range(work.partitions):
        where = TopicPartition(work.back, partition)
        _, end = consumer.get_watermark_offsets(where, timeout=CONNECT_S)
        ends.append(TopicPartition(work.back, partition, end if end >= 0 else OFFSET_END))
    consumer.assign(ends)
    consumer.poll(0.5)  # its first fetch is under way when the first answer comes
    return consumer
