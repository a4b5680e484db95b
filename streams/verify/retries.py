"""Work that ends where no broker answers any more: who reads a log tries again for as long as it takes."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

from streams.errors import UnreachableError

T = TypeVar("T")

ASK_EVERY_S = 2.0
MAX_WAIT_S = 30.0
"""Brokers may be away for so long: longer than one takes to start again."""


async def while_answered(
    work: Coroutine[Any, Any, T],
    ask: Callable[[], Awaitable[object]],
    *,
    most_s: float = MAX_WAIT_S,
    every_s: float = ASK_EVERY_S,
) -> T:
    """Return what work returns, as long as brokers answer.

    Parameters
    ----------
    ask : asks them something

    Raises
    ------
    UnreachableError
        If none has answered for `most_s`; work is cancelled then.
    """
    working = asyncio.ensure_future(work)
    asking = asyncio.ensure_future(_ask_on(ask, most_s, every_s))
    both = (working, asking)
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            asking.result()
        return await working
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _ask_on(ask: Callable[[], Awaitable[object]], most_s: float, every_s: float) -> None:
    """Ask again and again; it ends by an error alone."""
    while True:
        await asyncio.sleep(every_s)
        try:
            async with asyncio.timeout(most_s):
                await _answered(ask, every_s)
        except TimeoutError:
            raise UnreachableError(f"verify: no broker has answered for {most_s:.0f} s") from None


async def _answered(ask: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Return once brokers have answered."""
    while True:
        try:
            await ask()
        except KafkaError:
            await asyncio.sleep(every_s)
        else:
            return
