"""A release that serves nobody answers a share of the live requests once more, beside the work."""

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.pinning import others, standing, where_standing
from streams.events import Recommendation, Request
from streams.experiments.shares import in_share
from streams.learning.routes import choose
from streams.metrics import Metrics
from streams.serving.lane import Lane, Lanes
from streams.serving.request_batch import Gathered, Job
from streams.state.item_index import ItemIndex
from streams.state.shard import Shard

log = logging.getLogger(__name__)

MAX_ANSWERS = 20_000
"""Requests whose answers are kept until their slates close."""


@dataclass(frozen=True, slots=True)
class Shadowed:
    """The shadow release's slate for a request, and its scores of the slate that was served.

    agreement : share of the slate that it would have shown, too; what is on trial is in no release's slate
    seconds : that it took; live_s : from when the request came in until its slate was published
    propensities : by position of the slate that was served, how probable it is under this release and its
        policy, given those before; 1 of what is on trial, which no release chooses
    """

    agreement: float
    seconds: float
    live_s: float
    propensities: list[float]


@dataclass(slots=True)
class Shadow:
    """Results of a shadow release in one trial.

    Attributes
    ----------
    begun_ms : time of the record by which the trial began, in Unix ms
    answers : by request id
    error : why it could not make a slate, "" where it always could
    skipped : requests that came while there was no room
    """

    version: str
    begun_ms: int
    answers: dict[str, Shadowed] = field(default_factory=dict)
    error: str = ""
    skipped: int = 0


class Shadowing:
    """Asks the shadow of `lanes` about requests whose slates are out.

    One at a time, and only where no other request is in flight: whoever waits for a slate never waits for
    this, but for what one request alone takes of the processor.
    """

    def __init__(self, lanes: Lanes, index: ItemIndex, metrics: Metrics) -> None:
        self._lanes = lanes
        self._index = index
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None
        self.shadow: Shadow | None = None

    def offer(
        self, request: Request, shard: Shard, served: Recommendation, *, tried: str | None, busy: bool
    ) -> None:
        """Take up a request that has been answered, if it is of the share and there is room.

        Parameters
        ----------
        tried : the item of the slate that is on trial, if one is
        """
        lane = self._lanes.shadow
        if lane is None or request.preview or served.fallback is not None:
            return
        if len(served.slate) <= (tried is not None):  # nothing was chosen
            return
        if served.model_version != self._lanes.serving.version:
            return
        if not in_share([request.request_id], lane.version, self._lanes.shadow_share)[0]:
            return
        trial = lane.version, self._lanes.shadow_ms
        if self.shadow is None or (self.shadow.version, self.shadow.begun_ms) != trial:
            self.shadow = Shadow(*trial)
        if busy or (self._task is not None and not self._task.done()):
            self.shadow.skipped += 1
            self._metrics.shadowed.labels("skipped").inc()
            return
        job = Job(request, shard, 0.0)
        self._task = asyncio.create_task(self._answer(lane, self.shadow, job, served, tried))

    async def stop(self) -> None:
        """Give up what is in flight."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _answer(
        self, lane: Lane, shadow: Shadow, job: Job, served: Recommendation, tried: str | None
    ) -> None:
        try:
            gathered = lane.batches.gather([job])
            rows = np.array([self._index.row_of(item.item_id) for item in served.slate], np.int64)
            on_trial = np.array([item.item_id == tried for item in served.slate], np.bool_)
            loop = asyncio.get_running_loop()
            agreement, seconds, propensities = await loop.run_in_executor(
                lane.inference, _asked, lane, gathered, rows, on_trial
            )
        except Exception as error:  # whatever it is, the release that serves goes on
            log.exception("release %s could not answer as a shadow", lane.version)
            shadow.error = shadow.error or repr(error)
            self._metrics.shadowed.labels("error").inc()
            return
        live_s = served.latency_ms / 1000
        shadow.answers[served.request_id] = Shadowed(agreement, seconds, live_s, propensities)
        if len(shadow.answers) > MAX_ANSWERS:
            del shadow.answers[next(iter(shadow.answers))]
        self._metrics.shadowed.labels("answered").inc()


def _asked(
    lane: Lane, gathered: Gathered, served: NDArray[np.int64], on_trial: NDArray[np.bool_]
) -> tuple[float, float, list[float]]:
    """Make the slate, in the lane's thread, and see how probable another one is that was served.

    Parameters
    ----------
    served : (K,) int64, rows of the items that were served
    on_trial : (K,) bool, which of them, if any, is on trial: the policy chooses the others without it
    """
    began = time.perf_counter()
    batch = lane.batches.prepare(gathered)
    scores, candidates = lane.slates.candidates(batch)
    if not np.isfinite(scores.scores[scores.valid]).all():
        raise ValueError("scores must be finite, got NaN or infinity")
    selection = choose(candidates, batch.routes, k=batch.k, seeds=batch.seeds)
    seconds = time.perf_counter() - began
    own = scores.rows[0, selection.index[0][selection.index[0] >= 0]]
    chosen = served[~on_trial]
    same = (chosen[:, None] == scores.rows[0]) & scores.valid[0]
    index = np.where(same.any(axis=1), same.argmax(axis=1), -1)[None]
    if (missing := np.flatnonzero(index[0] < 0)).size:  # it would not show that, nor what comes after it
        index[0, missing[0] :] = -1
    tried = np.flatnonzero(np.isin(scores.rows[0], served[on_trial]) & scores.valid[0])
    candidates = replace(candidates, trial=tried if tried.size else np.array([-1]))  # and not one of its own
    stand = standing(candidates, (index >= 0).sum(axis=1) + tried.size)
    rest = others(candidates, stand) if (stand >= 0).any() else candidates
    found = lane.policies.live.propensities(rest, index, seeds=batch.seeds ^ np.uint64(1))
    found[where_standing(index, stand)] = 1.0
    propensities = np.ones(len(served))
    propensities[~on_trial] = found[0]
    return float(np.isin(chosen, own).mean()), seconds, propensities.tolist()
