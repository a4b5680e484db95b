"""What a bandit earns when the release changes under it: with and without what it had learned.

A worker on a log in memory serves users with a policy that learns, half of the time by one release and
half by another, which a record on `model-releases` promotes. Both are trained on the same log with different
seeds, so their features mean different things. What users take is not what they took in training: of the
items of their kind they like a fifth, which are the same for all, so the policy has something to learn.

Three runs of the same users and the same luck: the first release all the time; a change to one that begins
with what `feedback` says of the slates of before, as the trainer makes it; a change to one that begins with
nothing. Each is run in both directions, so that which release is better cancels out. Run from the
repository's root: `python -m tests.benchmarks.swap_learning`.
"""

import asyncio
import tempfile
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import stats

from model_core.inputs.corpus import make_corpus
from model_core.network.config import TrainConfig
from model_core.release.folder import add_learned, read_release
from model_core.release.scorer import Scorer
from model_core.training.train import train_release
from online_learning.types import PRIOR_PRECISION
from streams.commands.training_log import as_dataset
from streams.learning.learned import SCHEMA_VERSION, Learned, encode_learned
from streams.releases.store import ReleaseStore
from streams.session.machine import machine
from streams.state.feature_spaces import Spaces
from streams.testing.worker import MemoryWorker
from streams.trainer.refit import refit
from streams.trainer.shown_slates import ShownSlates
from streams.trainer.training_run import NoTexts, known_by
from tests.benchmarks.inputs import faults_told
from tests.model_core.tiny import CONFIG, N_ITEMS, WEIGHTS, corpus, dataset
from tests.streams.releases.life import Life, serves
from tests.streams.releases.made import variant

USERS, K = 30, 6
LIKED, OTHER, STRANGE = 0.5, 0.05, 0.01
"""Chances that an item which is looked at is liked: one of the user's own, of their kind, of another kind."""
RUNS = ("unswapped", "swapped, refitted", "swapped, blank")


def tastes(seed: int) -> NDArray[np.float64]:
    """Chance that each user likes each item once it is looked at: (USERS, N_ITEMS) float64."""
    rng = np.random.default_rng([seed, 1])
    users, items = np.arange(USERS), np.arange(N_ITEMS)
    same = users[:, None] % 2 == items % 2
    hot = rng.random(N_ITEMS) < 0.2
    return np.where(same, np.where(hot, LIKED, OTHER), STRANGE)


def taught(life: Life, folder: Path) -> None:
    """Let a release begin with what the slates of this log have earned."""
    settings, log = life.memory.settings, life.memory.log
    clicks = [(record.value or b"", record.timestamp) for record in log.records("clicks")]
    items = {item.item_id: item for item in dataset().items}
    told, actions = as_dataset(settings, clicks, items, [])
    release = read_release(folder)
    made = make_corpus(told, actions, settings.actions, NoTexts(release.text_dim), CONFIG.n_neighbours)
    shown = ShownSlates(settings, is_held=lambda user_id: False)
    shown.add(record.value for record in log.records("feedback"))
    users = np.unique(told.interactions.user_ids).tolist()
    learning = Spaces(settings).learning("", release.feature_dim)
    slates = shown.slates()
    sums = refit(Scorer(folder), known_by(release, made, told), users, slates, learning)
    row = Learned(SCHEMA_VERSION, learning.feature_space, release.feature_dim, sums.to_bytes())
    add_learned(folder, encode_learned(row), {"slates": len(slates)})


async def visits(life: Life, worker: MemoryWorker, rounds: range, seed: int) -> NDArray[np.float64]:
    """Let all users come by so often; return the likes per item shown of each round: (rounds,) float64."""
    events, clock, taste = life.memory.events, life.memory.clock, tastes(seed)
    rates = []
    for number in rounds:
        asked = {events.request(f"u{user}", k=K): user for user in range(USERS)}
        await worker.deliver()
        clock.move(1_000)
        liked = 0
        for slate in events.recommendations():
            if (user := asked.get(slate.request_id)) is None:
                continue
            luck = np.random.default_rng([seed, 2, user, number]).random((2, N_ITEMS))
            for item in slate.slate:
                row = int(item.item_id[1:])
                if luck[0, row] < 1 / np.log2(item.position + 2) and luck[1, row] < taste[user, row]:
                    liked += 1
                    events.click(f"u{user}", item.item_id, "like", request_id=slate.request_id)
        rates.append(liked / (USERS * K))
        clock.move(life.memory.settings.attribution_window_ms)
        await worker.deliver()
        await worker.flush()
        for lane in worker.parts.lanes:
            await lane.learner.learn_now(worker.parts.partitions.live())
    return np.array(rates)


async def run(
    kind: str, releases: tuple[Path, Path], rounds: int, seed: int, folder: Path, trust: float
) -> float:
    """Return the likes per item shown after the change, or after the time when it would have been."""
    settings = {
        "policy": "thompson", "prior_precision": trust, "seen_actions": [], "attribution_window_ms": 60_000,
        "seed": seed,
    }  # fmt: skip
    life = Life(folder, releases[0], **settings)
    for item in dataset().items:
        life.memory.events.content(item.item_id, item.title, attributes=item.attributes)
    first = ReleaseStore(str(life.store)).put(releases[0]).version
    async with life.worker(first) as worker:
        await visits(life, worker, range(rounds), seed)
        if kind != RUNS[0]:
            second = variant(releases[1], folder / "second")
            if kind == RUNS[1]:
                taught(life, second)
            life.say("promote", version := ReleaseStore(str(life.store)).put(second).version)
            await serves(worker, version)
        return float((await visits(life, worker, range(rounds, 2 * rounds), seed)).mean())


def main(
    seeds: Annotated[int, typer.Option(min=2, help="Of users and luck; each is run in both directions.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Visits of each of 30 users before the change.")] = 25,
    prior_precision: Annotated[float, typer.Option(help="As of the worker's settings.")] = PRIOR_PRECISION,
) -> None:
    """Click-through after a swap, beside that without one, on the same users and luck."""
    with tempfile.TemporaryDirectory() as scratch:
        made = [Path(scratch) / f"release-{n}" for n in range(2)]
        for n, folder in enumerate(made):
            train = TrainConfig(epochs=2, threads=1, seed=n)
            train_release(corpus(dataset()), WEIGHTS, folder / "raw", config=CONFIG, train=train)
            variant(folder / "raw", folder / "served")
        rates: dict[str, list[float]] = {kind: [] for kind in RUNS}
        for seed, first in product(range(seeds), (0, 1)):
            both = made[first] / "served", made[1 - first] / "served"
            for kind in RUNS:
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    share = run(kind, both, rounds, seed, Path(folder), prior_precision)
                    rates[kind].append(asyncio.run(share))
    print(f"{machine()}; {seeds} seeds, both directions; {rounds} visits of {USERS} users before and after")
    alone = np.array(rates[RUNS[0]])
    print(f"{'':>18} {'likes/shown':>12} {'to unswapped':>13} {'95 %':>20}")
    for kind in RUNS:
        mine = np.array(rates[kind])
        of_seed = (mine - alone).reshape(seeds, 2).mean(axis=1)
        reach = stats.t.ppf(0.975, seeds - 1) * of_seed.std(ddof=1) / np.sqrt(seeds)
        low, high = of_seed.mean() - reach, of_seed.mean() + reach
        print(f"{kind:>18} {mine.mean():>12.4f} {of_seed.mean():>+13.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
