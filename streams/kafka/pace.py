"""When a consumer looks for records again: at once while somebody waits for them, else a little later.

A look costs about the same whether it finds one record or a thousand, and under a steady stream of clicks
there are always some. So it waits until many have come, unless a request is in: that waits for clicks.
"""

import asyncio
import contextlib
import time

REST_S = 0.025
HURRY_S = 0.5  # requests seldom come alone
MANY = 2_000  # records of one look after which more are surely there already


class Pace:
    """Rests between two looks of a consumer. It belongs to the event loop."""

    def __init__(self) -> None:
        self._hurry_until = 0.0
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """Somebody waits for what is to be read: look at once, and for a while again and again."""
        self._hurry_until = time.monotonic() + HURRY_S
        self._hurried.set()

    async def rest(self, found: int) -> None:
        """Return when it is time for the next look, after one that found so many records."""
        if found >= MANY or time.monotonic() < self._hurry_until:
            await asyncio.sleep(0)
            return
        self._hurried.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), REST_S)
