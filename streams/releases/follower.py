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
from streams.releases.changes import (
    LONGEST_TEXT,
    WANT,
    Kind,
    ReleaseChange,
    ReleaseState,
    decode_change,
    encode_change,
    fold_changes,
)
from streams.releases.live import Live, passing, to_be_said
from streams.serving.lane import Lane, Lanes
from streams.state.shard import Shard

log = logging.getLogger(__name__)

RETRY_S, LONGEST_RETRY_S = 2.0, 60.0


class Follower:
    """Lets the release serve that the newest change names, and a canary beside it.

    Two releases are held at most: the one that serves, and the canary or the shadow, or the one before it, to
    which a rollback goes back at once, or the one that is being prepared.

    Parameters
    ----------
    topic : full name of `model-releases`
    shards : returns the shards that are restored and owned
    decides : whether it is for this worker to try a shadow
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
        decides: Callable[[], bool],
        begun: Live,
    ) -> None:
        self._topic = topic
        self._shards = shards
        self._lanes = lanes
        self._candidates = candidates
        self._publisher = publisher
        self._metrics = metrics
        self._decides = decides
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
        self._failing: set[asyncio.Task[None]] = set()
        lanes.failed = self._failed

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
        await asyncio.gather(*self._failing, return_exceptions=True)
        await self._abandon()

    def look_again(self) -> None:
        """Do what is wanted by now: this worker may have begun to decide, or have ceased to."""
        self._changed.set()

    def start_over(self) -> None:
        """Read the topic from its beginning, because it is another one by now; what serves goes on."""
        self._changes, self._known = [], 0
        task = asyncio.create_task(self._tail.start_over(self._topic))
        self._starting_over = task
        task.add_done_callback(self._crash_on_error)

    @property
    def changes(self) -> Sequence[ReleaseChange]:
        """Every change; none before the topic has been read to its end."""
        return self._changes if self._tail.caught_up.is_set() else ()

    @property
    def wanted(self) -> str | None:
        """The release that is to serve; None where none was ever promoted."""
        return fold_changes(self._changes).live

    def _crash_on_error(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(error)

    def _on_records(self, topic: str, partition: int, records: Sequence[Any]) -> None:
        found = [(record.offset, decode_change(record.value)) for record in records]
        if unknown := [offset for offset, change in found if change is None]:
            log.error(
                "%s: %d record(s) that are no changes this version knows are left out, such as offset %d",
                topic, len(unknown), unknown[0],
            )  # fmt: skip
        for change in (change for _, change in found if change is not None):
            self._changes.append(change)
            # Who promotes a release again has perhaps mended it.
            if change.change in WANT and len(self._changes) > self._known:
                self.refused.pop(change.version, None)
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            await self._tail.caught_up.wait()  # what served last week is not to be prepared again
            self._changed.clear()
            wanted = fold_changes(self._changes)
            self._keep_canary(wanted)
            self._keep_shadow(wanted)
            version = self._next(wanted)
            if self._preparing is not None and self._preparing[0] != version:
                await self._abandon()
            asked = [wanted.live, *([] if wanted.tried is None else [wanted.tried.version])]
            self._metrics.set_refused(next((one for one in asked if one in self.refused), None))
            if version is not None and self._preparing is None:
                self._prepare(version)

    def _next(self, wanted: ReleaseState) -> str | None:
        """Return the release that is to be prepared: what is to serve all, and then what is tried."""
        live = wanted.live
        if live is not None and live != self._lanes.serving.version and live not in self.refused:
            return live
        tried = wanted.tried
        if tried is None or tried.version in self.refused or not self._is_to_try(tried):
            return None
        # Beside another release than the one it is compared with it is not tried.
        return tried.version if live == self._lanes.serving.version else None

    def _is_to_try(self, tried: ReleaseChange) -> bool:
        if tried.change == "canary":
            return self._lanes.canary is None
        return self._lanes.shadow is None and self._decides()

    def _keep_shadow(self, wanted: ReleaseState) -> None:
        """Stop the shadow where it is not asked for or another worker decides; restart it for a new trial."""
        shadow, asked = self._lanes.shadow, wanted.shadow
        if shadow is None:
            return
        if asked is None or asked.version != shadow.version or not self._decides():
            self._lanes.answer_no_more()
            log.info("shadow %s answers nothing any more", shadow.version)
        elif asked.timestamp_ms != self._lanes.shadow_ms:  # it is tried anew
            self._answer_beside(shadow, asked)

    def _keep_canary(self, wanted: ReleaseState) -> None:
        """Give the canary the share that is asked for, or stop it where none is."""
        canary, asked = self._lanes.canary, wanted.canary
        if canary is None or canary.version == wanted.live:  # it is about to serve all
            return
        if asked is None or asked.trial is None or asked.version != canary.version:
            self._lanes.try_no_more()
            self._metrics.set_canary(None)
            log.info("canary %s serves nobody any more", canary.version)
        elif asked.trial.share != self._lanes.share:
            self._try_out(canary, asked.trial.share)

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
                fetched = await self._candidates.fetch(version)
                await self._make_room()  # not before: a rollback is at hand for as long as it can be
                lane = await self._candidates.prepare(fetched, self._crash)
            await encoded(lane)
            wanted = fold_changes(self._changes)
            if version == wanted.live:
                self._swap(lane, began)
            elif (tried := wanted.tried) is not None and tried.version == version:
                assert tried.trial is not None  # without one it does not count
                if tried.change == "canary":
                    self._try_out(lane, tried.trial.share)
                elif self._decides():
                    self._answer_beside(lane, tried)
            self._retry_s = RETRY_S
            self._changed.set()  # a canary may wait for its turn
        except Exception as error:  # whatever is wrong, the release that serves goes on
            if passing(error):
                await self._try_again(version, error)
            else:
                await self._refuse(version, error)
        self._preparing = None

    async def _try_again(self, version: str, error: Exception) -> None:
        reason = (str(error) or repr(error))[:LONGEST_TEXT]
        log.error("release %s is tried again in %g s: %s", version, self._retry_s, reason)
        self._metrics.releases_delayed.inc()
        if not isinstance(error, KafkaError):  # else there is nobody to tell
            await self._say("delay", version, reason)
        asyncio.get_running_loop().call_later(self._retry_s, self._changed.set)
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    async def _make_room(self) -> None:
        """Unload the previous release: memory holds two."""
        for lane in self._lanes:
            if lane is not self._lanes.serving:
                self._lanes.remove(lane)
                await lane.close()

    def _swap(self, lane: Lane, began: float) -> None:
        before = self._lanes.serving.version
        self._lanes.serve(lane, self._shards())
        seconds = time.perf_counter() - began
        show_release(self._metrics, lane)
        if self._lanes.canary is None:
            self._metrics.set_canary(None)
        self._metrics.release_swaps.inc()
        log.info("release %s serves in the place of %s, after %.2f s", lane.version, before, seconds)

    def _try_out(self, lane: Lane, share: float) -> None:
        self._lanes.try_out(lane, share)
        self._metrics.set_canary(lane.version, share)
        log.info("canary %s serves %g of the users", lane.version, share)

    def _answer_beside(self, lane: Lane, asked: ReleaseChange) -> None:
        assert asked.trial is not None  # without one it does not count
        self._lanes.answer_beside(lane, asked.trial.share, begun_ms=asked.timestamp_ms)
        log.info("shadow %s answers %g of the requests as well", lane.version, asked.trial.share)

    def _failed(self, version: str, error: Exception) -> None:
        """Refuse a canary that could not make a slate, for whatever reason."""
        self._metrics.set_canary(None)
        self.refused[version] = repr(error)  # at once: it is not to be tried again meanwhile
        task = asyncio.create_task(self._refuse(version, error))
        self._failing.add(task)
        task.add_done_callback(self._failing.discard)
        task.add_done_callback(self._crash_on_error)

    async def _refuse(self, version: str, error: Exception) -> None:
        known = isinstance(error, (SlatestreamError, ValueError))
        reason = (str(error) if known else repr(error))[:LONGEST_TEXT]
        log.error(
            "release %s is refused, %s serves on: %s", version, self._lanes.serving.version, reason,
            exc_info=None if known else error,
        )  # fmt: skip
        self.refused[version] = reason
        self._metrics.releases_refused.inc()
        self._metrics.set_refused(version)
        await self._say("refuse", version, reason)

    async def _say(self, kind: Kind, version: str, reason: str) -> None:
        """Write down what becomes of a release on this machine, once for each time that it was to serve."""
        host = socket.gethostname()
        if not to_be_said(kind, self._changes, version, host):
            return
        key, value = encode_change(ReleaseChange(kind, version, host, int(1000 * time.time()), reason))
        try:
            await self._publisher.publish(self._topic, 0, [(key, value)])
        except (KafkaError, SlatestreamError) as unwritten:  # it may not write there
            log.warning("the %s of release %s is in this log only: %s", kind, version, unwritten)


def show_release(metrics: Metrics, lane: Lane) -> None:
    """Name the release that serves in the metrics."""
    metrics.set_release(lane.version, lane.scorer.provider, written_s=_written_s(lane.folder))


def _written_s(folder: Path | None) -> float | None:
    try:
        return None if folder is None else (folder / MANIFEST).stat().st_mtime
    except OSError:  # who serves it has it in memory
        return None
