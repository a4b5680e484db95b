"""Dead letters as a page shows them: counted, listed, one by one, and replayed with what was mended."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from streams.dead_letters.log import Choice, Held, read_letters
from streams.dead_letters.replay import refusal, replay, why_not
from streams.errors import UnreachableError
from streams.settings import Settings

SHOWN = 100
LOOKED_AT = (500, 5_000)  # first few, then as many as there is time for
WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Letters:
    """The latest letters, newest first, and how many there are of each topic and reason.

    looked_at : number of letters read; None if that is all
    """

    latest: Sequence[Held]
    counts: Sequence[tuple[str, str, int]]
    total: int
    looked_at: int | None


class Refused(Exception):
    """A value is not replayed, and why."""


async def read_latest(
    settings: Settings,
    reason: str | None,
    *,
    looked_at: Sequence[int] = LOOKED_AT,
    within_s: float = WITHIN_S,
) -> Letters:
    """Read the latest dead letters, of one reason or of all: no more than there is time for.

    Parameters
    ----------
    looked_at : number of letters read, in growing steps

    Raises
    ------
    UnreachableError
        If not even the fewest of them can be read in time.
    """
    found: Letters | None = None
    for last in looked_at:
        try:
            found = await asyncio.wait_for(_read(settings, reason, last), within_s)
        except TimeoutError:
            break
        if found.looked_at is None:
            break
    if found is None:
        raise UnreachableError(f"the dead letters could not be read within {within_s:.0f} s")
    return found


async def _read(settings: Settings, reason: str | None, last: int) -> Letters:
    counts: Counter[tuple[str, str]] = Counter()
    latest: deque[Held] = deque(maxlen=SHOWN)
    first: int | None = None
    async for held in read_letters(settings, Choice(), last=last):
        first = held.number if first is None else first
        counts[held.letter.topic, held.letter.reason] += 1
        if reason in (None, held.letter.reason):
            latest.append(held)
    rows = [(topic, why, n) for (topic, why), n in counts.most_common()]
    # The number of the first one is how many came before; those may have expired.
    return Letters(list(reversed(latest)), rows, counts.total(), last if first else None)


async def read_letter(settings: Settings, number: int) -> Held | None:
    """Read one letter; None where there is none of that number."""
    async for held in read_letters(settings, Choice(numbers=(number,))):
        return held
    return None


async def replay_letter(settings: Settings, number: int, value: bytes | None) -> Held:
    """Send a letter's record to its topic again, with another value unless that is None.

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
