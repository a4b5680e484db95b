"""`slatestream worker`: run one worker until it is told to stop."""

import gc
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

SWITCH_S = 0.0002
# Slates that wait for their rewards are hundreds of thousands of objects, and no garbage: a pass over all of
# them holds every thread for 50 ms and more. So it comes once in 20 million objects that stay.
GC_THRESHOLDS = 1_000, 10, 2_000


def worker_command(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    release: Annotated[Path | None, typer.Option(help="Release folder made by `slatestream train`.")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port; 0 takes a free one.")] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="What is logged, and what is graver.")
    ] = "info",
) -> None:
    """Consume clicks, content, users and requests; publish recommendations.

    Every setting can also be given as SLATESTREAM_<NAME> in the environment or in the --config file, for
    instance SLATESTREAM_BOOTSTRAP_SERVERS=kafka:9092 (KAFKA_BOOTSTRAP_SERVERS works too). The topics must
    exist: `slatestream topics create`. Start the same command again on more machines to share the load.
    SIGTERM or Ctrl-C stops cleanly: what was taken is finished, flushed and committed.

    slatestream worker --release build/releases/latest

    SLATESTREAM_CONSOLE_PORT=6070 slatestream worker --config worker.toml
    """
    _keep_to_oneself()
    import uvloop

    from streams.log_lines import FORMAT, LineFormatter, Repeats
    from streams.settings import load_settings
    from streams.worker.run import run_worker

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(FORMAT))
    handler.addFilter(Repeats())
    logging.basicConfig(level=log_level.upper(), handlers=[handler])
    for noisy in ("aiokafka", "faust", "kafka", "mode"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    settings = load_settings(config, release=release, http_port=port)
    beside = None
    if settings.console_port is not None:
        from streams.console.server import start_console  # Jinja and the rest only where it is asked for

        beside = start_console
    code = uvloop.run(run_worker(settings, beside=beside))
    if code:
        raise typer.Exit(code)


def _keep_to_oneself() -> None:
    """Do nothing in vain: before NumPy is imported, and all that a worker is made of."""
    # NumPy's BLAS has a thread for each core, and those that wait spin: the processor is the event loop's.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is imported and made until the worker runs stays for good: to look for garbage in it takes a while.
    gc.disable()
    gc.set_threshold(*GC_THRESHOLDS)
    # The inference thread asks for the interpreter after each compiled call, and has it when this has passed.
    sys.setswitchinterval(SWITCH_S)
