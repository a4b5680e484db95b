"""Requests over Kafka at a constant rate: `requests` in, `recommendations` out, by librdkafka.

One thread sends and one reads, so that neither has to look again and again whether the other's time has come:
librdkafka waits in whole milliseconds, and requests are due more often. As "hop" they read what they wrote:
two ways through the broker and no worker, the calibration.
"""

import random
import threading
import time
from collections.abc import Callable

import msgspec
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from streams.bench.latency import Latencies, due
from streams.bench.work import Outcome, Work
from streams.events import Request, encode

CONNECT_S = 10.0
LOOK_S = 0.1  # how often it is looked whether the time is up
NO_LEADER_YET = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
PRODUCER = {"linger.ms": "0", "acks": "all", "partitioner": "murmur2"}  # as every client partitions
CONSUMER = {
    "group.id": "none",  # required by librdkafka, and unused: nothing is committed
    "enable.auto.commit": "false",
    "fetch.wait.max.ms": "100",
    "fetch.error.backoff.ms": "10",
}


class Answered(msgspec.Struct):
    """The fields of a recommendation that are read."""

    request_id: str
    fallback: str | None = None


class _Sender(threading.Thread):
    """Sends what is due.

    Attributes
    ----------
    waiting : when each request was due that is not answered, by its id
    sent : how many were sent
    late : how much later than due
    """

    def __init__(self, work: Work) -> None:
        super().__init__(daemon=True)
        rng = random.Random(work.seed)
        self._work = work
        self._users = [f"u{rng.randrange(work.users)}" for _ in range(work.count)]
        self._mark = f"{work.seed:x}-{time.time_ns():x}-"
        self._producer = Producer({**work.client, **PRODUCER})
        self._start_s = 0.0
        self.waiting: dict[str, float] = {}
        self.sent = 0
        self.late = Latencies()

    def begin(self, start_s: float) -> None:
        """Send the first request at a moment of `time.monotonic`."""
        self._start_s = start_s
        self.start()

    def run(self) -> None:
        """Send one after the other."""
        work, producer = self._work, self._producer
        for number, user in enumerate(self._users):
            moment = self._start_s + due(number, work.rate)
            if (wait := moment - time.monotonic()) > 0:
                time.sleep(wait)
            name = f"{self._mark}{number}"
            self.waiting[name] = moment  # before it is out: the answer finds it
            request = Request(name, user, int(time.time() * 1000), k=work.k)
            producer.produce(work.to, encode(request), user.encode())
            self.late.add(time.monotonic() - moment)
            self.sent += 1
            producer.poll(0)
        producer.flush(work.drain_s)


def generate(work: Work, begin: Callable[[], float]) -> Outcome:
    """Send what is due, read what comes, until all are answered or the time is up."""
    sender, consumer = _Sender(work), _at_the_end(work)
    waiting, answers = sender.waiting, Latencies()
    decode = msgspec.json.Decoder(Answered).decode
    fallbacks, last = 0, 0.0
    start = begin()
    sender.begin(start)
    deadline = start + due(work.count, work.rate) + work.drain_s
    while time.monotonic() < deadline and (waiting or sender.sent < work.count):
        message = consumer.poll(LOOK_S)
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
    sender.join(work.drain_s)
    answered, left = answers.count, list(waiting.values())
    for moment in left:
        answers.add(time.monotonic() - moment)
    consumer.close()
    return Outcome(
        sent=sender.sent,
        answered=answered,
        unanswered=len(left),
        refused=0,
        fallbacks=fallbacks,
        seconds=last,
        late_ms=sender.late.at(99.0),
        latencies=answers.encoded(),
    )


def _at_the_end(work: Work) -> Consumer:
    """Return a consumer that sees what is written to the answers' topic from now on."""
    consumer = Consumer({**work.client, **CONSUMER})
    ends = []
    for partition in range(work.partitions):
        where = TopicPartition(work.back, partition)
        end = _end_of(consumer, where)
        ends.append(TopicPartition(work.back, partition, end if end >= 0 else OFFSET_END))
    consumer.assign(ends)
    consumer.poll(0.5)  # its first fetch is under way when the first answer comes
    return consumer


def _end_of(consumer: Consumer, where: TopicPartition) -> int:
    """Return the next offset of a partition, which may have been made just now."""
    until = time.monotonic() + CONNECT_S
    while True:
        try:
            return int(consumer.get_watermark_offsets(where, timeout=CONNECT_S)[1])
        except KafkaException as error:
            if error.args[0].code() not in NO_LEADER_YET or time.monotonic() > until:
                raise
        time.sleep(LOOK_S)
