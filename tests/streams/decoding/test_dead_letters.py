"""Dead letters: published whole, counted once they are, and never in the way of what is good."""

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import ConsumerRecord

from streams.decoding.dead_letters import DeadLetters
from streams.decoding.records import INVALID, Rejected
from streams.events import decode_dead_letter
from streams.metrics import Metrics
from streams.testing.clock import HandClock
from streams.testing.log import MemoryLog


def refused(
    offset: int, key: bytes | None = b"k", value: bytes | None = b"{", reason: str = INVALID
) -> Rejected:
    record = ConsumerRecord("p.clicks", 3, offset, 0, 1, key, value, None, 0, 0, ())
    return Rejected(record, reason, "no JSON")


async def letters_of(log: MemoryLog) -> tuple[DeadLetters, Metrics]:
    publisher, metrics = log.publisher(), Metrics(process=False)
    await publisher.start()
    return DeadLetters(publisher, "dead", metrics), metrics


def counted(metrics: Metrics) -> bool:
    return b'dead_letters_total{reason="invalid",topic="clicks"} 2.0' in metrics.render()[0]


async def test_a_letter_has_the_record_its_place_and_the_reason() -> None:
    log = MemoryLog({"dead": 1}, HandClock())
    letters, metrics = await letters_of(log)
    await letters.publish("clicks", [refused(7), refused(9, key=None, value=None)])

    first, second = log.records("dead")
    assert (first.key, second.key) == (b"k", None)
    letter = decode_dead_letter(first.value)
    assert (letter.topic, letter.partition, letter.offset) == ("p.clicks", 3, 7)
    assert (letter.reason, letter.error, letter.value) == ("invalid", "no JSON", b"{")
    assert decode_dead_letter(second.value).value == b""
    assert counted(metrics)


async def test_the_first_of_each_reason_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    letters, _ = await letters_of(MemoryLog({"dead": 1}, HandClock()))
    await letters.publish("clicks", [refused(7), refused(8), refused(9, reason="future"), refused(10)])
    assert caplog.messages == [
        "3 record(s) of clicks to dead-letters (invalid); the first, partition 3 offset 7: no JSON",
        "1 record(s) of clicks to dead-letters (future); the first, partition 3 offset 9: no JSON",
    ]


async def test_a_large_key_is_cut() -> None:
    log = MemoryLog({"dead": 1}, HandClock())
    letters, _ = await letters_of(log)
    await letters.publish("clicks", [refused(0, key=b"k" * 5_000)])
    (record,) = log.records("dead")
    assert record.key == b"k" * 1024


async def test_what_was_not_taken_is_not_counted() -> None:
    log = MemoryLog({"dead": 1}, HandClock(), limits={"dead": 50})
    letters, metrics = await letters_of(log)
    with pytest.raises(MessageSizeTooLargeError):
        await letters.publish("clicks", [refused(0), refused(1)])
    assert not counted(metrics)


async def test_a_topic_that_takes_less_than_a_record_has_has_its_beginning() -> None:
    log = MemoryLog({"dead": 1}, HandClock(), limits={"dead": 10_000})
    letters, metrics = await letters_of(log)
    await letters.publish("clicks", [refused(0, value=b"x" * 50_000), refused(1)])
    first, second = [decode_dead_letter(record.value) for record in log.records("dead")]
    assert (first.offset, first.value, first.truncated) == (0, b"x" * 4_096, True)
    assert (second.offset, second.value, second.truncated) == (1, b"{", False)
    assert counted(metrics)


async def test_nothing_refused_writes_nothing() -> None:
    log = MemoryLog({"dead": 1}, HandClock())
    letters, _ = await letters_of(log)
    await letters.publish("clicks", [])
    assert log.order == []
