"""Simulated users as clients of a worker: they ask for slates over the topics and send their clicks."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model_core.data.datasets import Dataset
from online_learning.simulator.config import SimulatorConfig
from online_learning.simulator.users import Users
from streams.client import SlateClient
from streams.commands.tastes import fit_tastes
from streams.demo.publish import content_rows, user_rows
from streams.errors import SlatestreamError
from streams.events import Click, Recommendation, Request
from streams.kafka.publish_rows import publish_rows
from streams.kafka.publisher import Publisher
from streams.settings import Settings

CATALOGUE_TIMEOUT_S = 120.0
_LISTS = ("clicks", "shown", "expected", "best")
POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Number of slates of k items to ask for, and of users at a time; `seed` is of all they do."""

    requests: int
    at_once: int
    k: int
    seed: int


@dataclass(slots=True)
class Visits:
    """Results of the visits: parallel lists, one entry an answered request, in the order of the answers.

    `expected` are the clicks that the slate was worth, `best` those of the best slate of all items that the
    user had not clicked before.
    """

    clicks: list[int] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    policies: dict[str, int] = field(default_factory=dict)
    fallbacks: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    sessions: int = 0

    def figures(self, part: slice) -> dict[str, float]:
        """Return click-through, expected clicks and regret a slate over a stretch of the requests."""
        shown = max(1, sum(self.shown[part]))
        expected, best = np.array(self.expected[part]), np.array(self.best[part])
        return {
            "slates": float(len(expected)),
            "click_through": sum(self.clicks[part]) / shown,
            "expected_clicks": float(expected.mean()) if len(expected) else 0.0,
            "regret": float((best - expected).mean()) if len(expected) else 0.0,
        }


async def visit_topics(
    settings: Settings,
    dataset: Dataset,
    behaviour: SimulatorConfig,
    visit: Visit,
    *,
    say: Callable[[str], None],
) -> Visits:
    """Publish content and users, and let users visit until so many slates have been asked for.

    Raises
    ------
    SlatestreamError
        If no worker serves the items in time, or one serves an item that the dataset does not have.
    """
    tastes = fit_tastes(dataset, seed=visit.seed)
    say(f"Publishing {len(dataset.items):,} items and {len(dataset.users):,} users ...")
    publisher = Publisher(settings)
    try:
        await publisher.start()
        await publish_rows(settings, publisher, "content", content_rows(dataset))
        await publish_rows(settings, publisher, "users", user_rows(dataset))
    finally:
        await publisher.stop()
    rng = np.random.default_rng(visit.seed)
    user_ids = np.unique(dataset.interactions.user_ids)
    users = Users(tastes, behaviour, rng.permutation(len(user_ids)), rng=rng)
    async with SlateClient(settings) as client:
        crowd = _Crowd(client, users, [str(user_ids[row]) for row in users.rows], dataset, visit)
        say("Waiting until a worker serves them ...")
        await crowd.wait_for_items()
        say(f"{visit.at_once} users at a time ask for {visit.requests:,} slates ...")
        await crowd.run()
    return crowd.visits


class _Crowd:
    def __init__(
        self, client: SlateClient, users: Users, user_ids: list[str], dataset: Dataset, visit: Visit
    ) -> None:
        self._client = client
        self._users = users
        self._user_ids = user_ids
        self._item_ids = [item.item_id for item in dataset.items]
        self._rows = {item_id: row for row, item_id in enumerate(self._item_ids)}
        self._visit = visit
        self._run_id = uuid.uuid4().hex[:8]
        self._asked = 0
        self._next = 0
        self._clicked = np.zeros((len(users), len(self._item_ids)), np.bool_)
        self.visits = Visits()

    async def wait_for_items(self) -> None:
        """Ask, for a user of no consequence, until a slate is full."""
        deadline = time.monotonic() + CATALOGUE_TIMEOUT_S
        n = 0
        while time.monotonic() < deadline:
            n += 1
            probe = f"{self._run_id}-probe"
            request = Request(f"{probe}-{n}", probe, int(time.time() * 1000), k=self._visit.k)
            try:
                answer = await self._client.ask(request, timeout_s=max(0.1, deadline - time.monotonic()))
            except TimeoutError:
                break
            if len(answer.recommendation.slate) == self._visit.k:
                return
            await asyncio.sleep(POLL_S)
        raise SlatestreamError(
            f"no worker served {self._visit.k} items within {CATALOGUE_TIMEOUT_S:.0f} s: "
            "is `slatestream worker` running on these topics?"
        )

    async def run(self) -> None:
        """Let users come one after another, so many at a time, until all slates have been asked for."""
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._visit.at_once, len(self._users))):
                group.create_task(self._queue())

    async def _queue(self) -> None:
        while self._asked < self._visit.requests:
            # Whoever has finished comes back later as they were: there are only so many users.
            user, self._next = self._next % len(self._users), self._next + 1
            await self._session(user)

    async def _session(self, user: int) -> None:
        self.visits.sessions += 1
        while self._asked < self._visit.requests:
            self._asked += 1
            request = Request(
                f"{self._run_id}-{self._asked}",
                self._user_ids[user],
                int(time.time() * 1000),
                k=self._visit.k,
            )
            try:
                answer = await self._client.ask(request)
            except TimeoutError:
                self.visits.lost += 1
                return
            slate = self._read(answer.recommendation)
            if not len(slate):
                return
            if await self._react(user, request, slate):
                return

    def _read(self, recommendation: Recommendation) -> NDArray[np.int64]:
        visits = self.visits
        visits.policies[recommendation.policy] = visits.policies.get(recommendation.policy, 0) + 1
        fallback = recommendation.fallback or "none"
        visits.fallbacks[fallback] = visits.fallbacks.get(fallback, 0) + 1
        unknown = [item.item_id for item in recommendation.slate if item.item_id not in self._rows]
        if unknown:
            raise SlatestreamError(f"the worker serves item {unknown[0]!r}, which the dataset does not have")
        return np.array([self._rows[item.item_id] for item in recommendation.slate], np.int64)

    async def _react(self, user: int, request: Request, slate: NDArray[np.int64]) -> bool:
        """Let a user look at a slate, and report; return whether they leave."""
        row, visits = np.array([user]), self.visits
        left_over = np.flatnonzero(~self._clicked[user])[None]
        visits.expected.append(float(self._users.expected_clicks(row, slate[None])[0]))
        visits.best.append(float(self._users.best_expected_clicks(row, left_over, self._visit.k)[0]))
        reaction = self._users.react(row, slate[None])
        positions = np.flatnonzero(reaction.clicks[0]).tolist()
        visits.shown.append(len(slate))
        visits.clicks.append(len(positions))
        self._clicked[user, slate[positions]] = True
        for position in positions:
            await self._client.click(
                Click(
                    event_id=f"{request.request_id}-{position}",
                    user_id=request.user_id,
                    item_id=self._item_ids[slate[position]],
                    action="click",
                    timestamp_ms=int(time.time() * 1000),
                    request_id=request.request_id,
                    position=position,
                )
            )
        return bool(reaction.left[0])


def show_visits(visits: Visits, out: Path, console: Console) -> dict[str, Any]:
    """Print click-through and regret, of all and by thirds, write them down, and return them."""
    n = len(visits.expected)
    parts = {
        "all": slice(0, n),
        "first third": slice(0, n // 3),
        "second third": slice(n // 3, 2 * n // 3),
        "last third": slice(2 * n // 3, n),
    }
    figures = {name: visits.figures(part) for name, part in parts.items()}
    table = Table(title="Simulated users over the topics", title_justify="left")
    for column in ("requests", "slates", "click-through", "expected clicks a slate", "regret a slate"):
        table.add_column(column, justify="left" if column == "requests" else "right")
    for name, of in figures.items():
        table.add_row(
            name, f"{of['slates']:,.0f}", f"{of['click_through']:.4f}", f"{of['expected_clicks']:.3f}",
            f"{of['regret']:.3f}",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"{visits.sessions:,} sessions, {visits.lost} requests without an answer; "
        f"policies {visits.policies}; fallbacks {visits.fallbacks}",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    summary = {"figures": figures, "visits": {k: v for k, v in asdict(visits).items() if k not in _LISTS}}
    out.mkdir(parents=True, exist_ok=True)
    (out / "topics.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    console.print(f"Figures in {out / 'topics.json'}", soft_wrap=True)
    return summary
