"""Closing aiokafka's clients, without losing a cancellation that comes meanwhile.

A client that closes cancels its own tasks, and waits for each with every cancellation suppressed: that of who
closes it, too, who would then go on with work that nobody wants any more.
"""

import asyncio
from collections.abc import Awaitable

_closing: set["asyncio.Future[None]"] = set()  # the loop alone would forget those that nobody waits for


async def closed(closing: Awaitable[None]) -> None:
    """Wait until a client has closed. A cancellation ends the wait; the client goes on to close."""
    work = asyncio.ensure_future(closing)
    _closing.add(work)
    work.add_done_callback(_closing.discard)
    await asyncio.wait({work})
    work.result()
