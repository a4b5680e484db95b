"""What the console reads of topics is bounded, by number and by time."""

import pytest
from kafka import KafkaProducer

from streams.console.evaluations import judge_policies
from streams.console.letters import read_latest
from streams.errors import UnreachableError
from streams.events import DeadLetter, encode
from streams.kafka.options import kafka_client_options
from streams.kafka.topics import topic_name
from streams.settings import Settings


@pytest.fixture
def with_letters(kafka_settings: Settings) -> Settings:
    """Thirty dead letters, every third of another reason."""
    producer = KafkaProducer(**kafka_client_options(kafka_settings), acks="all")
    for number in range(30):
        letter = DeadLetter(
            topic="clicks",
            partition=0,
            offset=number,
            error="no JSON",
            value=b"{",
            reason="text" if number % 3 == 0 else "invalid",
            timestamp_ms=1,
        )
        producer.send(topic_name(kafka_settings, "dead-letters"), encode(letter))
    producer.close()
    return kafka_settings


async def test_letters_are_counted_as_far_as_they_are_looked_at(with_letters: Settings) -> None:
    found = await read_latest(with_letters, None, looked_at=(5, 20))
    assert [held.number for held in found.latest] == list(range(29, 9, -1))
    assert (found.total, found.looked_at) == (20, 20)
    assert dict(((why, n) for _, why, n in found.counts)) == {"invalid": 14, "text": 6}


async def test_all_letters_are_said_to_be_all(with_letters: Settings) -> None:
    found = await read_latest(with_letters, "text", looked_at=(5, 50))
    assert [held.number for held in found.latest] == list(range(27, -1, -3))
    assert (found.total, found.looked_at) == (30, None)


async def test_letters_that_cannot_be_read_in_time_are_said_so(with_letters: Settings) -> None:
    with pytest.raises(UnreachableError, match="could not be read within 0 s"):
        await read_latest(with_letters, None, within_s=0.0)


async def test_policies_are_judged_by_what_was_read_in_time(kafka_settings: Settings) -> None:
    assert (await judge_policies(kafka_settings)).whole
    found = await judge_policies(kafka_settings, within_s=0.0)
    assert (found.whole, found.report.counts.slates) == (False, 0)
