"""Clicks at a constant rate, beside the requests that are measured."""

import time
from collections.abc import Callable
from itertools import chain

from confluent_kafka import Producer

from streams.bench.latency import Latencies, due
from streams.bench.wide import wide_clicks
from streams.bench.work import Outcome, Work

TICK_S = 0.005
PRODUCER = {
    "linger.ms": "5",
    "acks": "all",
    "partitioner": "murmur2",  # as every client partitions
    "queue.buffering.max.messages": "1000000",
}


def generate(work: Work, begin: Callable[[], float]) -> Outcome:
    """Send what is due every few milliseconds; all that is sent is acknowledged on return."""
    per_ms = max(1, round(work.rate / 1000))
    start_ms = int(time.time() * 1000)
    clicks = list(
        chain.from_iterable(
            wide_clicks(
                work.count,
                seed=work.seed,
                users=work.users,
                items=work.items,
                user_power=1,
                start_ms=start_ms,
                per_ms=per_ms,
            )
        )
    )
    keys = [user.encode() for user, _ in clicks]
    producer = Producer({**work.client, **PRODUCER})
    late = Latencies()
    start = begin()
    sent = 0
    while sent < work.count:
        now = time.monotonic()
        while sent < work.count and start + due(sent, work.rate) <= now:
            producer.produce(work.to, clicks[sent][1], keys[sent])
            sent += 1
        producer.poll(0)
        late.add(now - start - due(max(0, sent - 1), work.rate))
        time.sleep(TICK_S)
    left = producer.flush(work.drain_s)
    seconds = time.monotonic() - start
    return Outcome(
        sent=sent,
        answered=sent - left,
        unanswered=left,
        refused=0,
        fallbacks=0,
        seconds=seconds,
        late_ms=late.at(99.0),
    )
