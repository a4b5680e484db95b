"""Scores requests together: they queue, become one batch, and a lane makes the slates of all of it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from streams.metrics import Metrics
from streams.serving.batcher import Batcher
from streams.serving.lane import Lane, Lanes
from streams.serving.records import Chosen
from streams.serving.request_batch import Gathered, Job


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests whose slates are made together, by one lane."""

    lane: Lane
    jobs: Sequence[Job]
    gathered: Gathered


class Scoring:
    """Makes slates, by the lane that serves a request's user; a canary's requests are batched by themselves.

    Parameters
    ----------
    lanes : say what makes the slates of a batch
    took : called with the requests of each batch and the seconds that it took; see `Batcher`
    """

    def __init__(
        self, lanes: Lanes, *, max_batch: int, metrics: Metrics, took: Callable[[int, float], object]
    ) -> None:
        self._lanes = lanes
        self._metrics = metrics
        # Two batchers, so that nobody waits for a canary but its users.
        self._batcher, self._canary_batcher = (
            Batcher[Job, Batch, Chosen](
                partial(self._gather, lane_of=lane_of), make, max_batch=max_batch, took=took
            )
            for lane_of, make in (
                (lambda: lanes.serving, _make),
                (lambda: lanes.canary or lanes.serving, self._make_as_canary),
            )
        )

    def start(self) -> None:
        """Begin to score."""
        self._batcher.start()
        self._canary_batcher.start()

    async def stop(self) -> None:
        """Cancel what is being scored."""
        await self._batcher.stop()
        await self._canary_batcher.stop()

    async def slate(self, job: Job) -> Chosen:
        """Return the slate of a request, made with those of others that are asked for meanwhile."""
        canary = self._lanes.of(job.request.user_id) is not self._lanes.serving
        batcher = self._canary_batcher if canary else self._batcher
        return await batcher.submit(job)

    def _gather(self, jobs: Sequence[Job], lane_of: Callable[[], Lane]) -> Batch:
        metrics, now = self._metrics, time.perf_counter()
        metrics.observe_stages("queue", (now - job.queued for job in jobs))
        metrics.observe_score_batch(len(jobs))
        lane = lane_of()  # once for the batch: none of its slates is of two releases
        gathered = lane.batches.gather(jobs)
        metrics.observe_stage("gather", time.perf_counter() - now)
        return Batch(lane, jobs, gathered)

    async def _make_as_canary(self, batch: Batch) -> list[Chosen]:
        """Make the slates of a batch; where a canary cannot, the release that serves does."""
        try:
            return await _make(batch)
        except Exception as error:
            if batch.lane is self._lanes.serving:
                raise
            self._lanes.fail(batch.lane, error)
            return await _make(self._gather(batch.jobs, lambda: self._lanes.serving))


async def _make(batch: Batch) -> list[Chosen]:
    make, lane = batch.lane.slates.make, batch.lane
    return await asyncio.get_running_loop().run_in_executor(lane.inference, make, batch.gathered)
