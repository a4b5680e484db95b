"""Closing aiokafka's clients: who closes one is cancelled when somebody says so, and only then.

A client that closes cancels its own tasks, and waits for each with every cancellation suppressed: that of who
closes it, too, who would then go on with work that nobody wants any more. A consumer's fetches are the other
way round: one that waits to be tried again cancels who closes it, and the connections stay open.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any

from aiokafka.consumer.fetcher import Fetcher

_closing: set["asyncio.Future[None]"] = set()  # the loop alone would forget those that nobody waits for


async def closed(closing: Awaitable[None]) -> None:
    """Wait until a client has closed. A cancellation ends the wait; the client goes on to close."""
    work = asyncio.ensure_future(closing)
    _closing.add(work)
    work.add_done_callback(_closing.discard)
    await asyncio.wait({work})
    work.result()


_close = Fetcher.close


async def _close_fetches_first(fetcher: Any) -> None:
    fetcher._fetch_task.cancel()  # or it would begin others
    await asyncio.wait({fetcher._fetch_task})
    for fetch in fetcher._pending_tasks:
        fetch.cancel()
    await asyncio.gather(*fetcher._pending_tasks, return_exceptions=True)
    fetcher._pending_tasks.clear()
    await _close(fetcher)


Fetcher.close = _close_fetches_first  # for every consumer of the process, Faust's too
