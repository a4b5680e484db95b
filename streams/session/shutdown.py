"""How work at the command line ends: with its first error, or at once and in order on Ctrl-C and SIGTERM."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType

import typer
from rich.console import Console


async def race(main: Awaitable[None], *others: Awaitable[None]) -> None:
    """Run `main` beside others that run for ever; the first error of any of them ends all."""
    tasks = [asyncio.ensure_future(work) for work in (main, *others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseExceptionGroup):
            raise result.exceptions[0]
        if isinstance(result, Exception):
            raise result


async def keep_checking(check: Callable[[], None]) -> None:
    """Call `check` now and then, for ever; it raises when something has ended."""
    while True:
        await asyncio.sleep(1.0)
        check()


@contextlib.contextmanager
def clean_exit(console: Console) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end everything in order, with a word instead of a traceback.

    aiokafka's warnings about what it then does again by itself, such as finding the leader of a topic
    made a moment ago, are kept off the screen.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

    def interrupt(_signal: int, frame: FrameType | None) -> None:
        # As Ctrl-C: raised here, it would come out of whatever task runs, and leave the others half ended.
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
