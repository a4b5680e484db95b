"""Lets workers that follow a store of releases serve another."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from streams.releases.changes import publish_change
from streams.releases.store import ReleaseStore
from streams.settings import Settings
from streams.worker.process import MetricsReading, WorkerProcess

TIMEOUT_S = 120.0
POLL_S = 0.2


async def promote(settings: Settings, store: Path, release: Path, *, by: str) -> str:
    """Put a release into a store, and say that it is to be served; return its version.

    Parameters
    ----------
    store : folder of releases that workers follow
    by : who promotes it
    """
    version = (await asyncio.to_thread(ReleaseStore(str(store.absolute())).put, release)).version
    await publish_change(settings, "promote", version, by=by)
    return version


async def change_over(
    settings: Settings,
    worker: WorkerProcess,
    store: Path,
    release: Path,
    *,
    by: str,
    say: Callable[[str], None],
) -> bool:
    """Promote a release, and return whether the worker serves it; not if it refuses it, or takes too long.

    For `store` and `by` see `promote`.

    Raises
    ------
    WorkerError
        If the worker ends.
    """
    version = await promote(settings, store, release, by=by)
    say(f"The worker changes over to release {version} ...")
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        reading = await asyncio.to_thread(worker.metrics)
        if reading is not None and _names(reading, "release_info", version):
            return True
        if reading is not None and _names(reading, "release_refused_info", version):
            return False
        await asyncio.sleep(POLL_S)
    return False


def _names(reading: MetricsReading, metric: str, version: str) -> bool:
    return any(labels["version"] == version for labels in reading.labels(metric))
