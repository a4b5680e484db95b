"""Closing aiokafka's clients: who closes one is cancelled when somebody says so, and only then.

A client that closes cancels its own tasks, and waits for each with every cancellation suppressed: that of who
closes it, too, who would then go on with work that nobody wants any more. A consumer's fetches are the other
way round: one that waits to be tried again cancels who closes it, and the connections stay open, as they do
where an error has ended the fetches. And a thread that has a client is not waited for in the event loop, for
the thread may wait for that.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from mode.threads import ServiceThread

log = logging.getLogger(__name__)

END_TIMEOUT_S = 3.0  # for what is left, first tasks and then threads
CANCEL_AGAIN_S = 0.2

_closing: set["asyncio.Future[None]"] = set()  # the loop alone would forget those that nobody waits for


async def closed(closing: Awaitable[None], *, timeout_s: float | None = None) -> None:
    """Wait until a client has closed. A cancellation ends the wait; the client goes on to close.

    Parameters
    ----------
    timeout_s : ends the wait, too; without, it lasts as long as brokers take
    """
    work = asyncio.ensure_future(closing)
    _closing.add(work)
    work.add_done_callback(_has_closed)
    await asyncio.wait({work}, timeout=timeout_s)
    if work.done():
        work.result()


async def stop_reading(task: "asyncio.Task[None] | None", consumer: AIOKafkaConsumer | None) -> None:
    """End the task that reads from a consumer, then close that; either may not have been begun."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if consumer is not None:
        await closed(consumer.stop())


def _has_closed(work: "asyncio.Future[None]") -> None:
    _closing.discard(work)
    if not work.cancelled() and (error := work.exception()) is not None:
        log.debug("a client has closed with an error: %r", error)


async def end_tasks() -> set["asyncio.Task[Any]"]:
    """Cancel all other tasks of this event loop until they end; return those that have not within seconds.

    They are cancelled again, for a client library may keep one cancellation to itself.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + END_TIMEOUT_S
    while (others := asyncio.all_tasks() - {asyncio.current_task()}) and loop.time() < deadline:
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=CANCEL_AGAIN_S)
    if others:
        log.warning("left as they are: %s", ", ".join(sorted(str(task.get_coro()) for task in others)))
    return others


class EndingThread(ServiceThread):
    """A service with a thread of its own that ends within seconds, and holds up nobody meanwhile.

    mode's waits for its thread without letting the event loop go on, and for ever: for a task in the thread
    that keeps a cancellation to itself, and for one of the event loop's that is the thread's, too.
    """

    async def stop(self) -> None:
        """Stop; a thread that does not end is left."""
        if not self._started.is_set():
            return
        await super(ServiceThread, self).stop()
        if self._thread is not None:
            ended = asyncio.ensure_future(asyncio.to_thread(self._thread.stop))
            await asyncio.wait({ended}, timeout=2 * END_TIMEOUT_S)
            if not ended.done():
                log.warning("%s: its thread still waits for something; it is left", self.label)

    async def _gather_remaining_tasks(self) -> None:
        await end_tasks()

    async def _keepalive2(self) -> None:
        """Do nothing: it only says that a thread is slow, and is the task that two loops wait for."""


async def _close_fetches_first(fetcher: Any) -> None:
    fetcher._closed = True
    fetcher._fetch_task.cancel()  # or it would begin others; it may have ended by an error, too
    await asyncio.wait({fetcher._fetch_task})
    for fetch in fetcher._pending_tasks:
        fetch.cancel()
    await asyncio.gather(*fetcher._pending_tasks, return_exceptions=True)
    fetcher._pending_tasks.clear()
    for waiter in list(fetcher._fetch_waiters):
        fetcher._notify(waiter)


Fetcher.close = _close_fetches_first  # for every consumer of the process, Faust's too
