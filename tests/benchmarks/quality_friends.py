"""What friends' likes add to slates of artists (HetRec LastFM): hit@10 of a worker with and without them.

    python -m tests.benchmarks.quality_friends --folder FOLDER [--seeds 3] [--boost .2 --least 2]

FOLDER holds `lastfm-kg-mm`, or is it. A worker without a release, on a log in memory of four partitions,
reads the friends of all users and their artists of the training and validation parts, in an order drawn by
the seed: the data has no times. Every fifth user is new and has no event. Then each user who has friends asks
for ten artists; a hit is one of the user's test part among them. Differences are paired over users, 95 %
by bootstrap over users (means of the seeds).
"""

import asyncio
import gzip
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from model_core.release.baseline import BaselineScorer
from streams.settings import Settings
from streams.testing.clock import HandClock
from streams.testing.events import MemoryEvents
from streams.testing.log import MemoryLog
from streams.testing.worker import MemoryWorker
from tests.benchmarks.inputs import faults_told

K, NEW, DRAWS = 10, 5, 2_000
Likes = dict[str, list[str]]


def read(folder: Path) -> tuple[Likes, Likes, Likes]:
    """Artists of each user to learn from, those to be found, and each user's friends."""
    folder = folder / "lastfm-kg-mm" if (folder / "lastfm-kg-mm").is_dir() else folder
    known, hidden, friends = defaultdict(list), defaultdict(list), defaultdict(list)
    with gzip.open(folder / "lfm2k_og_ids.inter.gz", "rt") as lines:
        next(lines)
        for user, item, _, part in (line.split() for line in lines):
            (hidden if part == "2" else known)[user].append(item)
    with gzip.open(folder / "user_friends.dat.gz", "rt") as lines:
        next(lines)
        for user, friend in (line.split() for line in lines):
            friends[user].append(friend)
    return known, hidden, friends


async def hits(
    data: tuple[Likes, Likes, Likes], askers: list[str], seed: int, boost: float, least: int
) -> NDArray[np.float64]:
    """Whether each asker has a hit: (n,) float64."""
    known, hidden, friends = data
    rng = np.random.default_rng(seed)
    settings = Settings(
        text_encoder="none", partitions=4, policy="greedy", friends_boost=boost, friends_at_least=least,
        learned_slates_per_hour=0,
    )  # fmt: skip
    clock = HandClock()
    log = MemoryLog.of(settings, clock)
    events = MemoryEvents(settings, log, clock)
    for item in sorted({item for items in known.values() for item in items}):
        events.content(item)
    for user in askers:
        events.user(user, friends=friends[user])
    pairs = [(user, item) for user, items in known.items() if int(user) % NEW for item in items]
    for at in rng.permutation(len(pairs)).tolist():
        clock.move(1)
        events.click(*pairs[at], "like")
    async with MemoryWorker(settings, log, clock, BaselineScorer()) as worker:
        await worker.deliver()
        await worker.flush()
        for user in askers:
            events.request(user, request_id=user, k=K)
        await worker.deliver("requests")
    slates = {one.request_id: {item.item_id for item in one.slate} for one in events.recommendations()}
    return np.array([not slates[user].isdisjoint(hidden[user]) for user in askers], np.float64)


def interval(differences: NDArray[np.float64]) -> str:
    """Mean and 95 %: differences : (users,)."""
    draws = np.random.default_rng(0).integers(0, len(differences), (DRAWS, len(differences)))
    low, high = np.percentile(differences[draws].mean(axis=1), [2.5, 97.5])
    return f"{differences.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def main(
    folder: Annotated[Path, typer.Option(help="Holds lastfm-kg-mm, or is it.")],
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    boost: Annotated[list[float], typer.Option(help="friends_boost; several in turn.")] = [0.005, 0.02, 0.2],  # noqa: B006
    least: Annotated[list[int], typer.Option(help="friends_at_least.")] = [2, 1],  # noqa: B006
) -> None:
    """Print hit@10 of users with events and of new ones, by setting."""
    data = read(folder)
    askers = sorted((user for user in data[1] if user in data[2]), key=int)
    new = np.array([int(user) % NEW == 0 for user in askers])
    print(f"{np.count_nonzero(~new):,} users with events and {np.count_nonzero(new):,} new ones ask")
    print("friends_boost  friends_at_least  hit@10 with events, difference         new, difference")
    without: NDArray[np.float64] | None = None
    for added, friends in [(0.0, 2), *product(boost, least)]:
        runs = [asyncio.run(hits(data, askers, seed, added, friends)) for seed in range(seeds)]
        found = np.mean(runs, axis=0)
        without = found if without is None else without
        columns = [f"{found[one].mean():.4f} {interval((found - without)[one])}" for one in (~new, new)]
        print(f"{added:<14} {friends:<17} {'   '.join(columns)}", flush=True)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
