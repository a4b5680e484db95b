"""Dead letters as a page shows them: counted, listed, one by one, and replayed with what was mended."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from streams.dead_letters.log import Choice, Held, read_letters
from streams.dead_letters.replay import refusal, replay, why_not
from streams.settings import Settings

SHOWN = 100


@dataclass(frozen=True, slots=True)
class Letters:
    """The latest letters, newest first, and how many of all there are of each topic and reason."""

    latest: Sequence[Held]
    counts: Sequence[tuple[str, str, int]]
    total: int


class Refused(Exception):
    """A value is not replayed, and why."""


async def read_latest(settings: Settings, reason: str | None) -> Letters:
    """Read the dead letters, of one reason or of all."""
    counts: Counter[tuple[str, str]] = Counter()
    latest: deque[Held] = deque(maxlen=SHOWN)
    async for held in read_letters(settings, Choice()):
        counts[held.letter.topic, held.letter.reason] += 1
        if reason in (None, held.letter.reason):
            latest.append(held)
    rows = [(topic, why, n) for (topic, why), n in counts.most_common()]
    return Letters(list(reversed(latest)), rows, counts.total())


async def read_letter(settings: Settings, number: int) -> Held | None:
    """Read one letter; None where there is none of that number."""
    async for held in read_letters(settings, Choice(numbers=(number,))):
        return held
    return None


async def replay_letter(settings: Settings, number: int, value: bytes | None) -> Held:
    """Send a letter's record to its topic again: with another value, or None for its own.

    Raises
    ------
    Refused
        If there is no such letter, or a worker would refuse the value once more.
    """
    held = await read_letter(settings, number)
    if held is None:
        raise Refused(f"there is no dead letter {number}")
    why = why_not(settings, held) if value is None else None
    sent = held.letter.value if value is None else value
    if why is None:
        try:
            why = refusal(settings, held.letter.topic, sent, int(time.time() * 1000), key=held.key)
        except ValueError as error:
            why = str(error)
    if why is not None:
        raise Refused(why)
    await replay(settings, [(held, sent)])
    return held
