"""Follows `model-releases` while a worker runs: what is to serve is prepared, and then serves at once.

A release that cannot be served is refused: what served goes on, and the reason is in the log, on the topic,
in a metric and in the console. A store or a broker that does not answer is no fault of a release: it is asked
again.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from model_core.release.folder import MANIFEST
from streams.errors import SlatestreamError
from streams.kafka.log import Log, RowPublisher
from streams.metrics import Metrics
from streams.releases.candidate import Candidates, encoded
from streams.releases.changes import DECIDE, ReleaseChange, decode_change, encode_change, live
from streams.releases.live import LONGEST_REASON, Live, passing, to_be_refused
from streams.serving.lane import Lane, Lanes
from streams.state.shard import Shard

log = logging.getLogger(__name__)

RETRY_S, LONGEST_RETRY_S = 2.0, 60.0


class Follower:
    """Lets the release serve that the newest change names.

    Two releases are held at most: the one that serves, and the one before it, to which a rollback goes back
    at once, or the one that is being prepared.

    Parameters
    ----------
    topic : full name of `model-releases`
    shards : returns the shards that are restored and owned
    begun : what the worker began with

    Attributes
    ----------
    refused : releases that were to serve and cannot, and why
    """

    def __init__(
        self,
        log: Log,
        topic: str,
        shards: Callable[[], list[Shard]],
        *,
        lanes: Lanes,
        candidates: Candidates,
        publisher: RowPublisher,
        metrics: Metrics,
        begun: Live,
    ) -> None:
        self._topic = topic
        self._shards = shards
        self._lanes = lanes
        self._candidates = candidates
        self._publisher = publisher
        self._metrics = metrics
        self._known = begun.read
        self.refused = dict(begun.refused)
        self._changes: list[ReleaseChange] = []
        self._changed = asyncio.Event()
        self._preparing: tuple[str, asyncio.Task[None]] | None = None
        self._retry_s = RETRY_S
        self._tail = log.follow({topic: 1}, self._on_records)
        self._task: asyncio.Task[None] | None = None
        self._starting_over: asyncio.Task[None] | None = None
        self._crash: Callable[[BaseException], None] = lambda error: None

    async def start(self, crash: Callable[[BaseException], None]) -> None:
        """Begin to follow; an error that the worker must not survive goes to `crash`."""
        self._crash = crash
        await self._tail.start()
        self._tail.task.add_done_callback(self._crash_on_error)
        self._task = asyncio.create_task(self._follow())
        self._task.add_done_callback(self._crash_on_error)

    async def stop(self) -> None:
        """Stop to follow, and to prepare."""
        await self._tail.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._abandon()

    def start_over(self) -> None:
        """Read the topic from its beginning, because it is another one by now; what serves goes on."""
        self._changes, self._known = [], 0
        task = asyncio.create_task(self._tail.start_over(self._topic))
        self._starting_over = task
        task.add_done_callback(self._crash_on_error)

    @property
    def wanted(self) -> str | None:
        """The release that is to serve; None where none was ever promoted."""
        return live(self._changes)

    @property
    def settled(self) -> bool:
        """Whether what is to serve does, or is refused."""
        return self._preparing is None and not self._changed.is_set()

    def _crash_on_error(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(error)

    def _on_records(self, topic: str, partition: int, records: Sequence[Any]) -> None:
        for record in records:
            if (change := decode_change(record.value)) is None:
                continue
            self._changes.append(change)
            # Who promotes a release again has perhaps mended it.
            if change.change in DECIDE and len(self._changes) > self._known:
                self.refused.pop(change.version, None)
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            await self._tail.caught_up.wait()  # what served last week is not to be prepared again
            self._changed.clear()
            version = self.wanted
            if self._preparing is not None and self._preparing[0] != version:
                await self._abandon()
            self._metrics.set_refused(version if version in self.refused else None)
            if version is None or version == self._lanes.serving.version or version in self.refused:
                continue
            if self._preparing is None:
                self._prepare(version)

    def _prepare(self, version: str) -> None:
        task = asyncio.create_task(self._serve(version))
        task.add_done_callback(self._crash_on_error)
        self._preparing = version, task

    async def _abandon(self) -> None:
        preparing, self._preparing = self._preparing, None
        if preparing is not None:
            preparing[1].cancel()
            await asyncio.gather(preparing[1], return_exceptions=True)

    async def _serve(self, version: str) -> None:
        began = time.perf_counter()
        try:
            lane = next((one for one in self._lanes if one.version == version), None)
            if lane is None:
                folder = await self._candidates.fetch(version)
                await self._make_room()  # not before: a rollback is at hand for as long as it can be
                lane = await self._candidates.prepare(folder, self._crash)
            await encoded(lane)
            self._swap(lane, began)
            self._retry_s = RETRY_S
        except Exception as error:  # whatever is wrong, the release that serves goes on
            if passing(error):
                self._try_again(version, error)
            else:
                await self._refuse(version, error)
        self._preparing = None

    def _try_again(self, version: str, error: Exception) -> None:
        log.error("release %s is tried again in %g s: %s", version, self._retry_s, str(error) or repr(error))
        asyncio.get_running_loop().call_later(self._retry_s, self._changed.set)
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    async def _make_room(self) -> None:
        """Let go of the release from before: memory is for two."""
        for lane in self._lanes:
            if lane is not self._lanes.serving:
                self._lanes.remove(lane)
                await lane.close()

    def _swap(self, lane: Lane, began: float) -> None:
        before = self._lanes.serving.version
        self._lanes.serve(lane, self._shards())
        seconds = time.perf_counter() - began
        show_release(self._metrics, lane)
        self._metrics.release_swaps.inc()
        log.info("release %s serves in the place of %s, after %.2f s", lane.version, before, seconds)

    async def _refuse(self, version: str, error: Exception) -> None:
        known = isinstance(error, (SlatestreamError, ValueError))
        reason = (str(error) if known else repr(error))[:LONGEST_REASON]
        log.error(
            "release %s is refused, %s serves on: %s", version, self._lanes.serving.version, reason,
            exc_info=None if known else error,
        )  # fmt: skip
        self.refused[version] = reason
        self._metrics.releases_refused.inc()
        self._metrics.set_refused(version)
        host = socket.gethostname()
        if not to_be_refused(self._changes, version, host):
            return
        key, value = encode_change(ReleaseChange("refuse", version, host, int(1000 * time.time()), reason))
        try:
            await self._publisher.publish(self._topic, 0, [(key, value)])
        except (KafkaError, SlatestreamError) as unwritten:  # it may not write there
            log.warning("the refusal of release %s is in this log only: %s", version, unwritten)


def show_release(metrics: Metrics, lane: Lane) -> None:
    """Name the release that serves in the metrics."""
    metrics.set_release(lane.version, lane.scorer.provider, written_s=_written_s(lane.folder))


def _written_s(folder: Path | None) -> float | None:
    try:
        return None if folder is None else (folder / MANIFEST).stat().st_mtime
    except OSError:  # who serves it has it in memory
        return None
