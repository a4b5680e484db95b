"""The demo's users before releases, several times each: what of a difference between two runs is luck.

`slatestream demo` shows one run, of users who come by as time goes. Here the same users come by a worker on a
log in memory, a quarter of a second at a time, with other luck for each seed; what they do counts as it does
there. Rates are of the clicks to be expected of what is shown, by each user's own probabilities, for there is
less luck in them than in clicks. Intervals are Student's 95 % over seeds; releases share the same luck.

    slatestream train --data ML-100K --until 0.6 --epochs 3 --seed 0 --out R
    python -m tests.benchmarks.demo_in_memory R --seeds 4
"""

import asyncio
from collections.abc import Collection, Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from model_core.data.datasets import Dataset
from model_core.release.scorer import Scorer
from streams.attack.site import MemorySite
from streams.demo.arms import ARMS, Baselines
from streams.demo.off_policy import ATTRIBUTION_WINDOW_MS
from streams.demo.publish import POSITIVE, click_rows, content_rows, user_rows
from streams.demo.run import UNTIL
from streams.demo.taste import draws, examination, population, react
from streams.demo.users import Traffic, arrivals
from streams.events import Click, Request, decode_click
from streams.releases.options import check_release
from streams.session.machine import machine
from streams.settings import load_settings
from tests.benchmarks.inputs import DataFolder, faults_told, read_data
from tests.benchmarks.quality_topn import interval

STEP_MS, PAST = 250, 5_000
VISITS = ("first visits", "later visits", "all visits")


def steps(traffic: Traffic, n_users: int) -> Iterator[tuple[int, list[int]]]:
    """Milliseconds after the start, and the users who come by: each once, or the next who is not there."""
    for at, some in groupby(arrivals(traffic, n_users), lambda visit: int(1000 * visit[0] / STEP_MS)):
        here: list[int] = []
        for _, user in some:
            while user in here:
                user = (user + 1) % n_users
            here.append(user)
        yield at * STEP_MS, here


class Run:
    """One run of the demo's users.

    Attributes
    ----------
    expected : of each visit the clicks to be expected of each arm's slate, an item
    first : of each visit whether it is the user's first one
    shown : of each visit the items of the policy's slate, by row

    Parameters
    ----------
    new : items that are published when the visits begin, and of whose past nothing is told
    """

    def __init__(
        self, dataset: Dataset, traffic: Traffic, users: int, new: Collection[str] = frozenset()
    ) -> None:
        self._dataset, self._new = dataset, new
        past = dataset.interactions.first(UNTIL)
        self._past = past[~np.isin(past.item_ids, list(new))]
        self._traffic = traffic
        self._users = population(dataset, until=UNTIL, n_users=users, seed=traffic.seed)
        self._rows = {item_id: row for row, item_id in enumerate(self._users.item_ids)}
        self._arms = Baselines(len(self._users.user_ids), len(self._rows))
        self._random = np.random.default_rng([traffic.seed, 2])
        self._visits = np.zeros(len(self._users.user_ids), np.int64)
        self.expected: list[tuple[float, ...]] = []
        self.first: list[bool] = []
        self.shown: list[NDArray[np.int64]] = []

    async def play(self, release: Path, policy: str, **more: Any) -> NDArray[np.float64]:
        """Return the rate of each arm in each of `VISITS`: (3, 3) float64.

        Parameters
        ----------
        more : settings of the worker
        """
        settings = load_settings(attribution_window_ms=ATTRIBUTION_WINDOW_MS, policy=policy, **more)
        begin_ms, end_ms = (int(self._past.timestamps_ms[at]) for at in (0, -1))
        async with MemorySite(settings, Scorer(release), begin_ms, learn=True) as site:
            content = list(content_rows(self._dataset))
            await site.publish("content", [row for row in content if row[0] not in self._new])
            await site.publish("users", user_rows(self._dataset))
            users = {user_id: row for row, user_id in enumerate(self._users.user_ids)}
            clicks = [decode_click(value) for _, value in click_rows(self._past)]
            for click in clicks:
                user, item = users.get(click.user_id), self._rows[click.item_id]
                self._arms.learn(user, item, positive=click.action in POSITIVE, past=True)
            for begin in range(0, len(clicks), PAST):
                await site.click(clicks[begin : begin + PAST])
            await site.publish("content", [row for row in content if row[0] in self._new])
            for at_ms, here in steps(self._traffic, len(users)):
                await self._step(site, end_ms + 1_000 + at_ms, here)
        expected, first = np.array(self.expected), np.array(self.first)
        return np.stack([expected[chosen].mean(0) for chosen in (first, ~first, first | ~first)])

    async def _step(self, site: MemorySite, now_ms: int, here: list[int]) -> None:
        """Let some users ask for a slate, and act."""
        names = [f"{self._users.user_ids[user]}-{self._visits[user]}" for user in here]
        k, ids = self._traffic.k, self._users.user_ids
        requests = [Request(name, ids[user], now_ms, k=k) for name, user in zip(names, here, strict=True)]
        clicks: list[Click] = []
        for name, user, slate in zip(names, here, await site.ask(requests), strict=True):
            clicks += self._visit(
                name, user, np.array([self._rows[item] for item in slate], np.int64), now_ms
            )
        await site.click(clicks)

    def _visit(self, name: str, user: int, slate: NDArray[np.int64], now_ms: int) -> Iterator[Click]:
        """Count what is to be expected of each arm's slate, and give what the user does with the policy's."""
        self.shown.append(slate)
        k, arms, visit = self._traffic.k, self._arms, int(self._visits[user])
        luck = draws(seed=self._traffic.seed, user=user, visit=visit, k=k, n_items=len(self._rows))
        slates = slate, arms.random(user, k, self._random), arms.popular(user, k)
        look = examination(k)
        self.expected.append(
            tuple(float(look[: len(one)] @ self._users.click[user, one]) / k for one in slates)
        )
        self.first.append(visit == 0)
        self._visits[user] += 1
        for arm, other in zip(ARMS[1:], slates[1:], strict=True):
            arms.use(arm, user, other[react(self._users, user, other, luck).clicked])
        reaction = react(self._users, user, slate, luck)
        done = (reaction.clicked, "click"), (reaction.liked, "like"), (reaction.disliked, "dislike")
        for positions, action in done:
            for position in positions:
                arms.learn(user, int(slate[position]), positive=action == "click")
                yield Click(
                    f"{name}-{position}-{action}", self._users.user_ids[user],
                    self._users.item_ids[slate[position]], action, now_ms, request_id=name, position=position,
                )  # fmt: skip


def main(
    releases: Annotated[list[Path], typer.Argument(help="Of the first 60 %, as the demo trains them.")],
    data: DataFolder = None,
    seeds: Annotated[int, typer.Option(min=2, help="Of users' luck.")] = 4,
    users: Annotated[int, typer.Option(min=1, help="As of the demo.")] = 400,
    seconds: Annotated[float, typer.Option(min=1, help="As of the demo.")] = 60.0,
    policy: Annotated[str, typer.Option(help="As of the worker's settings.")] = "thompson",
) -> None:
    """Clicks per item shown that are to be expected of each release's policy, by seed."""
    for release in releases:
        check_release(release)
    dataset = read_data(data)
    print(f"{machine()}; {seeds} seeds, policy {policy}")
    found = []
    for release in releases:
        runs = [Run(dataset, Traffic(seconds, 40.0, seed=seed), users) for seed in range(seeds)]
        rates = np.stack([asyncio.run(run.play(release, policy)) for run in runs])  # (seeds, visits, arms)
        found.append(rates[:, :, 0])
        print(f"\n{release}")
        for visits, of in zip(VISITS, np.moveaxis(rates, 1, 0), strict=True):
            told = ", ".join(f"{arm} {interval(of[:, at].tolist())}" for at, arm in enumerate(ARMS))
            to = ", ".join(f"to {ARMS[at]} {interval((of[:, 0] / of[:, at]).tolist(), 2)}" for at in (1, 2))
            print(f"{visits:>13}: {told}; policy {to}", flush=True)
    for release, one in zip(releases[1:], found[1:], strict=True):
        ahead = ", ".join(
            f"{name} {interval(of.tolist())}" for name, of in zip(VISITS, (one - found[0]).T, strict=True)
        )
        print(f"\n{release} less {releases[0]}: {ahead}")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
