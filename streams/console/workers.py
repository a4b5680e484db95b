"""All workers of the deployment, as each says of itself over HTTP: looked at when somebody looks."""

import asyncio
from collections.abc import Callable, Collection
from functools import partial

from streams.worker.scrape import Worker, watch

WITHIN_S = 2.5  # for each of the two things that a worker is asked for


async def look_around(urls: Callable[[], Collection[str]]) -> list[Worker]:
    """Return what each worker says of itself, those that do not answer too, by address.

    Parameters
    ----------
    urls : their addresses
    """
    found = await asyncio.gather(
        *(asyncio.to_thread(partial(watch, [url], {}, timeout_s=WITHIN_S)) for url in sorted(urls()))
    )
    return [worker for workers, _ in found for worker in workers]
