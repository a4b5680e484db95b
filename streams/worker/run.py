"""Runs a worker in this process until it is told to stop, or cannot go on."""

import asyncio
import logging
import os
import signal

from streams.errors import SlatestreamError
from streams.releases.live import with_live_release
from streams.settings import Settings
from streams.worker.allocator import bound_heaps
from streams.worker.app import Beside, create_app
from streams.worker.cached_kernels import load_without_compiler

log = logging.getLogger("slatestream")

STOP_TIMEOUT_S = 30.0


async def run_worker(settings: Settings, *, beside: Beside | None = None) -> int:
    """Run a worker in this event loop, and what else belongs beside it; return the exit code at the end."""
    bound_heaps()
    load_without_compiler()
    app = create_app(await with_live_release(settings))
    app.beside = beside
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
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
