"""`slatestream worker`: run one worker until it is told to stop."""

import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from streams.errors import SlatestreamError
from streams.settings import Settings, load_settings

log = logging.getLogger("slatestream")

STOP_TIMEOUT_S = 30.0


def worker_command(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    release: Annotated[Path | None, typer.Option(help="Release folder made by `slatestream train`.")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port; 0 takes a free one.")] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Consume clicks, content, users and requests; publish recommendations.

    Every setting can also be given as SLATESTREAM_<NAME> in the environment or in the --config file, for
    instance SLATESTREAM_BOOTSTRAP_SERVERS=kafka:9092 (KAFKA_BOOTSTRAP_SERVERS works too). The topics must
    exist: `slatestream topics create`. Start the same command again on more machines to share the load.
    SIGTERM or Ctrl-C stops cleanly: what was taken is finished, flushed and committed.
    """
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for noisy in ("aiokafka", "faust", "kafka", "mode"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    settings = load_settings(config, release=release, http_port=port)
    code = asyncio.run(run_worker(settings))
    if code:
        raise typer.Exit(code)


async def run_worker(settings: Settings) -> int:
    """Run a worker in this event loop; return the exit code once it has stopped."""
    # What is imported and made until it runs stays for good: to look for garbage in it takes a while.
    gc.disable()
    from streams.worker.app import create_app
    from streams.worker.cached_kernels import load_without_compiler

    load_without_compiler()
    app = create_app(settings)
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
