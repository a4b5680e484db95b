"""Simulated users: they come by, ask for a slate, click what they like, and judge the other arms too."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.client import ANSWER_TIMEOUT_S, Answer, SlateClient
from streams.demo.arms import ARMS, Baselines, Visits
from streams.demo.publish import POSITIVE, Past
from streams.demo.taste import Draws, Population, Reaction, draws, react
from streams.errors import SlatestreamError
from streams.events import Click, Request


@dataclass(frozen=True, slots=True)
class Traffic:
    """Traffic of simulated users.

    Attributes
    ----------
    seconds : float
        For how long new visits begin.
    rate : float
        Visits a second, on average; arrivals are a Poisson process.
    k : int
        Items a slate.
    seed : int
        Of arrivals and of all that users do. Two runs differ only by what they are shown.
    timeout_s : float
        A slate that has not come by then is lost.
    """

    seconds: float
    rate: float
    k: int = 10
    seed: int = 0
    timeout_s: float = ANSWER_TIMEOUT_S


def arrivals(traffic: Traffic, n_users: int) -> Iterator[tuple[float, int]]:
    """Generate the seconds after the start and the user of each visit."""
    rng = np.random.default_rng([traffic.seed, 1])
    at = 0.0
    while (at := at + float(rng.exponential(1.0 / traffic.rate))) <= traffic.seconds:
        yield at, int(rng.integers(n_users))


class Simulation:
    """Visits of a population, many at a time but one at a time per user.

    Event times go on from the latest click in the topic, a second a second.

    Attributes
    ----------
    traffic : Traffic
        As given.
    visits : Visits
        What each answered visit gave.
    latencies_s : list of float
        From before a request was sent until its slate was read.
    asked, lost : int
        Visits begun, and those whose slate did not come in time.
    short, repeated : int
        Slates with fewer than k items, and items that the user had already acted on.
    """

    def __init__(
        self, client: SlateClient, users: Population, past: Past, traffic: Traffic, *, run_id: str
    ) -> None:
        self._client = client
        self._users = users
        self.traffic = traffic
        self._run_id = run_id
        self._rows = {item_id: row for row, item_id in enumerate(users.item_ids)}
        self._start_ms = past.latest_ms + 1_000 if past.latest_ms else int(time.time() * 1000)
        self._began = time.perf_counter()
        self._arms = Baselines(len(users.user_ids), len(users.item_ids))
        self._learn_past(past.events)
        self._here: set[int] = set()
        self._random = np.random.default_rng([traffic.seed, 2])
        self._count = np.zeros(len(users.user_ids), np.int64)
        self.visits = Visits()
        self.latencies_s: list[float] = []
        self.asked = self.lost = self.short = self.repeated = 0
        self.model_version = "-"
        self.policy = "-"
        self.policy_version = 0
        self.fallbacks: dict[str, int] = {}

    @property
    def client(self) -> SlateClient:
        """The client that the visits share."""
        return self._client

    async def run(self) -> None:
        """Let users come by until the time is up, and wait for the last of them."""
        self._began = time.perf_counter()
        n_users = len(self._users.user_ids)
        async with asyncio.TaskGroup() as group:
            for arrival, chosen in arrivals(self.traffic, n_users):
                await asyncio.sleep(max(0.0, self._began + arrival - time.perf_counter()))
                # Whoever is here already is passed over for the next who is not.
                order = (np.arange(chosen, chosen + n_users) % n_users).tolist()
                user = next((user for user in order if user not in self._here), None)
                if user is not None:
                    self._here.add(user)
                    group.create_task(self._visit(user))

    async def _visit(self, user: int) -> None:
        try:
            await self._ask_and_act(user)
        finally:
            self._here.remove(user)

    async def _ask_and_act(self, user: int) -> None:
        visit = int(self._count[user])
        self._count[user] += 1
        self.asked += 1
        request = Request(
            request_id=f"{self._run_id}-{self._users.user_ids[user]}-{visit}",
            user_id=self._users.user_ids[user],
            timestamp_ms=self._now_ms(),
            k=self.traffic.k,
        )
        unseen = int(np.count_nonzero(~self._arms.seen[user]))
        others = (
            self._arms.random(user, request.k, self._random),
            self._arms.popular(user, request.k),
        )
        try:
            answer = await self._client.ask(request, timeout_s=self.traffic.timeout_s)
        except TimeoutError:
            self.lost += 1
            return
        slate = self._take(user, answer, shown=min(request.k, unseen))
        luck = draws(
            seed=self.traffic.seed, user=user, visit=visit, k=request.k, n_items=len(self._users.item_ids)
        )
        reaction = react(self._users, user, slate, luck)
        self._judge(user, reaction, others, luck)
        await self._act(user, request, slate, reaction)

    def _take(self, user: int, answer: Answer, *, shown: int) -> NDArray[np.int64]:
        """Note what the answer says of itself and return its slate as item rows."""
        recommendation = answer.recommendation
        self.latencies_s.append(answer.latency_s)
        self.model_version = recommendation.model_version
        self.policy = recommendation.policy
        self.policy_version = max(self.policy_version, recommendation.policy_version)
        if recommendation.fallback is not None:
            self.fallbacks[recommendation.fallback] = self.fallbacks.get(recommendation.fallback, 0) + 1
        slate = np.array([self._row(item.item_id) for item in recommendation.slate], np.int64)
        self.short += len(slate) < shown
        self.repeated += int(self._arms.seen[user, slate].sum())
        return slate

    def _row(self, item_id: str) -> int:
        row = self._rows.get(item_id)
        if row is None:
            raise SlatestreamError(f"the worker serves item {item_id!r}, which the dataset does not have")
        return row

    def _judge(
        self, user: int, reaction: Reaction, others: tuple[NDArray[np.int64], ...], luck: Draws
    ) -> None:
        """Count the clicks of every arm of this visit."""
        counted = []
        for arm, other in zip(ARMS[1:], others, strict=True):
            clicked = react(self._users, user, other, luck).clicked
            self._arms.use(arm, user, other[clicked])
            counted.append(len(clicked))
        self.visits.add(user, len(others[0]), (len(reaction.clicked), *counted))

    async def _act(self, user: int, request: Request, slate: NDArray[np.int64], reaction: Reaction) -> None:
        """Publish what the user does with the policy's slate; a like follows its click."""
        await self._report(user, request, slate, reaction.clicked, "click")
        await self._report(user, request, slate, reaction.liked, "like")
        await self._report(user, request, slate, reaction.disliked, "dislike")

    async def _report(
        self, user: int, request: Request, slate: NDArray[np.int64], positions: list[int], action: str
    ) -> None:
        clicks = [
            Click(
                event_id=f"{request.request_id}-{position}-{action}",
                user_id=request.user_id,
                item_id=self._users.item_ids[slate[position]],
                action=action,
                timestamp_ms=self._now_ms(),
                request_id=request.request_id,
                position=position,
            )
            for position in positions
        ]
        await asyncio.gather(*map(self._client.click, clicks))
        for position in positions:
            # A like follows a click on the same item: one vote for it is enough.
            self._arms.learn(user, int(slate[position]), positive=action == "click")

    def _learn_past(self, events: Iterable[tuple[str, str, str]]) -> None:
        users = {user_id: row for row, user_id in enumerate(self._users.user_ids)}
        for user_id, item_id, action in events:
            item = self._rows.get(item_id)
            if item is not None:
                self._arms.learn(users.get(user_id), item, positive=action in POSITIVE, past=True)

    def _now_ms(self) -> int:
        return self._start_ms + int(1000 * (time.perf_counter() - self._began))
