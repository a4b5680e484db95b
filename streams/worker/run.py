"""Runs a worker in this process until it is told to stop, or cannot go on."""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from streams.errors import SlatestreamError
from streams.kafka.closing import END_TIMEOUT_S, end_tasks
from streams.releases.live import live_release
from streams.settings import Settings
from streams.worker.allocator import bound_heaps
from streams.worker.app import Beside, create_app
from streams.worker.cached_kernels import load_without_compiler

log = logging.getLogger("slatestream")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOP_TIMEOUT_S = 30.0
CRASH_TIMEOUT_S = 5.0  # then nothing is to be flushed or answered, and others wait for the partitions
T = TypeVar("T")


async def run_worker(settings: Settings, *, beside: Beside | None = None) -> int:
    """Run a worker in this event loop, and what else belongs beside it; return the exit code at the end.

    The process ends here where something of the worker's does not.
    """
    try:
        code = await _run(settings, beside)
    except Exception as error:
        if not await end_the_rest():
            log.critical("stopped by an error: %s", error)
            _leave(_code_of(error))
        raise
    if not await end_the_rest():
        _leave(code)
    loop = asyncio.get_running_loop()
    for number in SIGNALS:  # another one would end the interpreter on its way out, and the exit code with it
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    return code


async def _run(settings: Settings, beside: Beside | None) -> int:
    bound_heaps()
    load_without_compiler()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
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
        app.parts.partitions.begin_to_stop()
        stopping = asyncio.ensure_future(app.stop())
        timeout_s = CRASH_TIMEOUT_S if app.crash_reason is not None else STOP_TIMEOUT_S
        await asyncio.wait({stopping}, timeout=timeout_s)
        if not stopping.done():
            log.error(
                "not stopped within %.0f s; what was not committed will be read again", timeout_s,
                exc_info=app.crash_reason,
            )  # fmt: skip
            _leave(_code_of(app.crash_reason))
        stopping.result()
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
        # The thread that fetches it cannot be cut off, and nothing has been begun that would be lost.
        _leave(0)
    stopping.cancel()
    return working.result()


async def end_the_rest() -> bool:
    """End what is still at work in this event loop, within seconds; say whether all of it has ended."""
    left = await end_tasks()
    threads = asyncio.ensure_future(asyncio.get_running_loop().shutdown_default_executor())
    await asyncio.wait({threads}, timeout=END_TIMEOUT_S)
    if not threads.done():
        log.warning("a thread still waits for something; it is left")
    return threads.done() and not left


def _code_of(error: BaseException | None) -> int:
    """Return the exit code of a worker that an error ends, as the command would."""
    return error.exit_code if isinstance(error, SlatestreamError) else 1


def _leave(code: int) -> NoReturn:
    """End the process at once: what waits for the broker would hold the interpreter's own way out."""
    logging.shutdown()
    os._exit(code)
