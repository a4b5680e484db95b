"""A release and all that is made of it, and which of them serves."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from model_core.release.folder import Release
from streams.cache import Hold
from streams.experiments.shares import in_share
from streams.items.table import AnyScorer, ItemTable
from streams.learning.learner import Learner
from streams.learning.policy_set import PolicySet
from streams.serving.eligibility import Eligibility
from streams.serving.explainer import Explainer
from streams.serving.previews import Previews
from streams.serving.request_batch import RequestBatches
from streams.serving.slates import SlateMaker
from streams.state.shard import Shard

POLL_S = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """A release, and everything that depends on it: what is made by one lane is of one release.

    Attributes
    ----------
    folder : where the release is, which stays there while the lane is in use; None where there is none
    hold : what keeps the folder there; None where there is none
    inference : the thread that scores with it, and the only one to write or read its items
    """

    folder: Path | None
    hold: Hold | None
    scorer: AnyScorer
    inference: ThreadPoolExecutor
    items: ItemTable
    policies: PolicySet
    learner: Learner
    batches: RequestBatches
    slates: SlateMaker
    explainer: Explainer
    previews: Previews

    @property
    def version(self) -> str:
        """Version of the release."""
        return self.scorer.release.version

    async def close(self) -> None:
        """Let go of the thread and of what the release holds in memory; what was begun ends before."""
        await self.items.stop()
        while self.explainer.busy:
            await asyncio.sleep(POLL_S)
        await asyncio.get_running_loop().run_in_executor(self.inference, self.scorer.close)
        self.inference.shutdown(wait=False)
        self._release_folder()

    def abandon(self) -> None:
        """Let go of the thread at once: the worker ends."""
        self._release_folder()
        self.inference.shutdown(wait=False, cancel_futures=True)

    def _release_folder(self) -> None:
        if self.hold is not None:
            self.hold.release()


class Lanes:
    """Hands out the lane that serves: the one thing that changes when another release is to serve.

    A lane is asked for once for each batch and goes with it, so no slate is of two releases. All lanes are
    kept up to date with the items and with what is learned.

    Attributes
    ----------
    canary : serves a share of the users beside the lane that serves; None where none does
    share : of the users, 0 where there is no canary
    shadow : answers a share of the requests, `shadow_share`, and serves nobody; None where none does
    shadow_ms : time of the record by which it does, in Unix ms; 0 where none does
    failed : is told of a canary that could not make a slate: its version, and the error
    """

    def __init__(self, eligibility: Eligibility) -> None:
        self._eligibility = eligibility
        self._lanes: list[Lane] = []
        self.canary: Lane | None = None
        self.share = 0.0
        self.shadow: Lane | None = None
        self.shadow_share = 0.0
        self.shadow_ms = 0
        self.failed: Callable[[str, Exception], None] = lambda version, error: None

    @property
    def serving(self) -> Lane:
        """The lane of the slates that are begun now."""
        return self._lanes[0]

    @property
    def release(self) -> Release:
        """The release that serves."""
        return self.serving.scorer.release

    def surge_bound(self) -> float:
        """Bound of the release that serves; see `model_core.robust.surge`."""
        return self.release.signals.surge_bound

    def of(self, user_id: str) -> Lane:
        """The lane of the slates of a user that are begun now."""
        if self.canary is not None and in_share([user_id], self.canary.version, self.share)[0]:
            return self.canary
        return self.serving

    def __iter__(self) -> Iterator[Lane]:
        """Every lane, the one that serves first."""
        return iter(tuple(self._lanes))

    @property
    def pending(self) -> int:
        """Items that wait to be encoded, by any lane."""
        return sum(lane.items.pending for lane in self._lanes)

    def begin(self, lane: Lane) -> None:
        """Let the first lane serve."""
        self._lanes = [lane]
        lane.items.tell(self._eligibility.mark_encoded)

    def add(self, lane: Lane) -> None:
        """Keep another lane up to date from now on; it encodes all items that there are, beside the work."""
        self._lanes.append(lane)
        known = lane.items.described()
        lane.items.refresh(known)

    def remove(self, lane: Lane) -> None:
        """Keep a lane up to date no more."""
        self._try_as_nothing(lane)
        self._lanes = [one for one in self._lanes if one is not lane]

    def serve(self, lane: Lane, shards: Iterable[Shard]) -> None:
        """Let a lane, which has encoded all items, serve from the next batch on; the one before stays.

        Parameters
        ----------
        shards : those that are restored and owned
        """
        self._try_as_nothing(lane)
        before = self.serving
        before.items.tell(None)
        lane.items.tell(self._eligibility.mark_encoded)
        self._eligibility.encode_all()
        self._lanes = [lane, *(one for one in self._lanes if one is not lane)]
        for shard in shards:
            self.serve_from(shard)

    def try_out(self, lane: Lane, share: float) -> None:
        """Let a lane, which has encoded all items, serve a share of the users from the next batch on."""
        self._try_as_nothing(lane)
        self.canary, self.share = lane, share

    def answer_beside(self, lane: Lane, share: float, *, begun_ms: int) -> None:
        """Let a lane, which has encoded all items, answer a share of the requests and serve nobody."""
        self.shadow, self.shadow_share, self.shadow_ms = lane, share, begun_ms

    def answer_no_more(self) -> None:
        """Let the shadow answer nothing; its lane stays."""
        self.shadow, self.shadow_share, self.shadow_ms = None, 0.0, 0

    def _try_as_nothing(self, lane: Lane) -> None:
        if lane is self.canary:
            self.try_no_more()
        if lane is self.shadow:
            self.answer_no_more()

    def try_no_more(self) -> None:
        """Let the lane that serves serve all users; the canary's stays."""
        self.canary, self.share = None, 0.0

    def fail(self, lane: Lane, error: Exception) -> None:
        """Let a canary serve nobody any more that could not make a slate."""
        if lane is self.canary:
            self.try_no_more()
            self.failed(lane.version, error)

    def serve_from(self, shard: Shard) -> None:
        """Let a shard learn from the slates that are begun now."""
        shard.statistics.serve(self.serving.version, self.serving.policies.learning.empty())
