"""Slates as they would be now, under every policy, for people who look: nothing is published or learned."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from streams.events import Request
from streams.learning.policy_set import PolicySet
from streams.learning.routes import Route, choose
from streams.serving.request_batch import Gathered, Job, RequestBatches
from streams.serving.slates import SlateMaker
from streams.state.item_index import ItemIndex
from streams.state.shard import Shard


@dataclass(frozen=True, slots=True)
class PreviewItem:
    """An item of a slate that nobody is shown: its score, and how probable it was at its position."""

    item_id: str
    score: float
    propensity: float


@dataclass(frozen=True, slots=True)
class Preview:
    """The slate of one policy; experiment and variant are None where the live policy serves the user."""

    policy: str
    slate: Sequence[PreviewItem]
    experiment: str | None = None
    variant: str | None = None


class Previews:
    """Makes slates on the inference thread, between the batches that are served.

    They pass no gate, go to no topic, are counted nowhere and open no slate, so nothing is learned of them.

    Parameters
    ----------
    inference : the thread that scores
    """

    def __init__(
        self,
        *,
        batches: RequestBatches,
        slates: SlateMaker,
        policies: PolicySet,
        index: ItemIndex,
        inference: ThreadPoolExecutor,
    ) -> None:
        self._batches = batches
        self._slates = slates
        self._policies = policies
        self._index = index
        self._inference = inference

    async def of(self, request: Request, shard: Shard) -> list[Preview]:
        """Return the slate that the user would have now, then that of each candidate policy."""
        gathered = self._batches.gather([Job(request, shard, time.perf_counter())])
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._inference, self._make, gathered)

    async def rehearse(self, requests: Sequence[tuple[Request, Shard]]) -> None:
        """Make slates for so many requests together and tell nobody: what is made first takes longest.

        Raises
        ------
        ValueError
            If a score is no number.
        """
        jobs = [Job(request, shard, time.perf_counter()) for request, shard in requests]
        gathered = self._batches.gather(jobs)
        await asyncio.get_running_loop().run_in_executor(self._inference, self._rehearse, gathered)

    def _rehearse(self, gathered: Gathered) -> None:
        batch = self._batches.prepare(gathered)
        scores, candidates = self._slates.candidates(batch)
        if not np.isfinite(scores.scores[scores.valid]).all():
            raise ValueError("scores must be finite, and those of users of late are not")
        choose(candidates, batch.routes, k=batch.k, seeds=batch.seeds)

    def _make(self, gathered: Gathered) -> list[Preview]:
        batch = self._batches.prepare(gathered)
        scores, candidates = self._slates.candidates(batch)
        (served,) = batch.routes
        routes = {served.policy: served}
        for text, policy in self._policies.shadows.by_text.items():
            routes.setdefault(text, Route((policy,)))
        found = []
        for name, route in routes.items():
            chosen = choose(candidates, [route], k=batch.k, seeds=batch.seeds)
            at = np.flatnonzero(chosen.index[0] >= 0)
            index = chosen.index[0, at]
            columns = zip(
                scores.rows[0, index].tolist(), scores.scores[0, index].tolist(),
                chosen.propensities[0, at].tolist(), strict=True,
            )  # fmt: skip
            slate = [PreviewItem(self._index.ids[row], score, p) for row, score, p in columns]
            found.append(Preview(name, slate, route.experiment, route.variant))
        return found
