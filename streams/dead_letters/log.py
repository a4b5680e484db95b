"""Reading `dead-letters`: what was refused, by its number."""

from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from dataclasses import dataclass

from streams.events import UNDECODABLE, DeadLetter, decode_dead_letter
from streams.kafka.columns import Record
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_name
from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Held:
    """A dead letter and its number, the offset at which it lies; key is its source record's."""

    number: int
    key: bytes | None
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Choice:
    """A selection of dead letters; None or empty selects all. topic is as the broker names it."""

    numbers: Collection[int] = ()
    topic: str | None = None
    reason: str | None = None
    since_ms: int = 0

    def takes(self, held: Held) -> bool:
        """Tell whether a letter is among them."""
        letter = held.letter
        return (
            (not self.numbers or held.number in self.numbers)
            and self.topic in (None, letter.topic)
            and self.reason in (None, letter.reason)
            and letter.timestamp_ms >= self.since_ms
        )


async def read_letters(settings: Settings, choice: Choice, *, last: int | None = None) -> AsyncIterator[Held]:
    """Yield the chosen letters, oldest first, to the topic's end; what is no letter is passed over.

    Parameters
    ----------
    last : look at no more than so many of the latest
    """
    topic = topic_name(settings, "dead-letters")
    first, final = min(choice.numbers, default=0), max(choice.numbers, default=None)
    letters = read_partition(settings, topic, 0, start=first, since_ms=choice.since_ms, last=last)
    async with aclosing(letters) as batches:
        async for records in batches:
            for held in map(_held, records):
                if held is not None and choice.takes(held):
                    yield held
            if final is not None and records[-1].offset >= final:
                return


def _held(record: Record) -> Held | None:
    try:
        return Held(record.offset, record.key, decode_dead_letter(record.value or b""))
    except UNDECODABLE:
        return None
