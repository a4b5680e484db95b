"""What became of releases: the latest records of `model-releases`, read when somebody looks, in a thread."""

import asyncio
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from streams.errors import SlatestreamError
from streams.releases.changes import ReleaseChange, read_changes, standing
from streams.settings import Settings

SHOWN = 20
WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Life:
    """The latest changes, newest first.

    Attributes
    ----------
    changes : each, and whether it came too late and changes nothing
    n : of all there are
    pinned : version that is to stay what serves, None where none is pinned
    canary : the change by which a release serves a share of the users; None where none does
    away : why the topic could not be read, "" where it was
    """

    changes: list[tuple[ReleaseChange, bool]]
    n: int = 0
    pinned: str | None = None
    canary: ReleaseChange | None = None
    away: str = ""


async def read_life(settings: Settings, *, shown: int = SHOWN, within_s: float = WITHIN_S) -> Life:
    """Return what became of releases; where the brokers do not answer, what they said."""
    try:
        async with asyncio.timeout(within_s):
            changes = await read_changes(settings)
    except (KafkaError, SlatestreamError, TimeoutError) as error:
        return Life([], away=str(error) or repr(error))
    now = standing(changes)
    found = [(change, number in now.void) for number, change in enumerate(changes)]
    return Life(found[: -shown - 1 : -1], len(changes), now.pinned, now.canary)
