"""Runs a worker in this process until it is told to stop, or cannot go on."""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from streams.errors import SlatestreamError
from streams.releases.live import live_release
from streams.settings import Settings
from streams.worker.allocator import bound_heaps
from streams.worker.app import Beside, create_app
from streams.worker.cached_kernels import load_without_compiler

log = logging.getLogger("slatestream")

STOP_TIMEOUT_S = 30.0
T = TypeVar("T")


async def run_worker(settings: Settings, *, beside: Beside | None = None) -> int:
    """Run a worker in this event loop, and what else belongs beside it; return the exit code at the end."""
    bound_heaps()
    load_without_compiler()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    app = create_app(settings, await _unless(stop, live_release(settings)))
    app.beside = beside
    try:
        starting = asyncio.create_task(app.start())
        waiting = {starting, asyncio.create_task(stop.wait()), asyncio.create_task(app._crashed.wait())}
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if starting in done:
            starting.result()
            await asyncio.wait(waiting - {starting}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait_for(app.stop(), STOP_TIMEOUT_S)
    except TimeoutError:
        log.error("not stopped within %.0f s; what was not committed will be read again", STOP_TIMEOUT_S)
        logging.shutdown()
        # A thread that waits for the broker would hold the interpreter's own way out, perhaps for ever.
        os._exit(1)
    finally:
        await app.stop_http()
    reason = app.crash_reason
    if reason is not None:
        if isinstance(reason, SlatestreamError):
            raise reason
        log.critical("stopped by an error: %r", reason)
        return 1
    log.info("stopped")
    return 0


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; end the process if it is told to stop before."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not working.done():
        log.info("stopped while a release was fetched")
        logging.shutdown()
        # The thread that fetches it cannot be cut off, and nothing has been begun that would be lost.
        os._exit(0)
    stopping.cancel()
    return working.result()
