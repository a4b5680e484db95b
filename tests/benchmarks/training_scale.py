"""What a training costs by the size of its log: time and peak memory of each part, and what it is good for.

python -m tests.benchmarks.training_scale --events 1000000 --users 50000 --items 30000

The log is drawn by a seed: users have two tastes of many, items belong to one and are popular by Zipf's law
there, and every third event takes one of the few items that go with the user's last one. So popularity finds
something and co-visits more. Titles say an item's taste in words.
Quality is that of the release's own test: users of the last tenth, all items ranked.
"""

import resource
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from model_core.data.datasets import Dataset, Interactions, Item
from model_core.inputs.corpus import make_corpus
from model_core.network.config import ModelConfig, TrainConfig
from model_core.training.train import train_release
from streams.items.text_encoder import named_encoder
from streams.settings import DEFAULT_ACTIONS
from tests.benchmarks.inputs import faults_told

MB = 1 << 20
GOES_ON = 1 / 3


class Parts:
    """Seconds of processor time and highest memory of each stage that `report` names, told as each begins."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.clock: dict[str, float] = defaultdict(float)
        self.peak: dict[str, int] = defaultdict(int)
        self._stage, self._at, self._wall = "", time.process_time(), time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def report(self, stage: str, done: float) -> None:
        """Count what has passed since the last word as the stage's that was at work."""
        now, wall = time.process_time(), time.monotonic()
        self.seconds[self._stage] += now - self._at
        self.clock[self._stage] += wall - self._wall
        if stage not in ("", self._stage):
            print(
                f"{stage}: begins after {now:.0f} s of processor time, with {resident() / MB:.0f} MB",
                flush=True,
            )
        self._stage, self._at, self._wall = stage, now, wall

    def _watch(self) -> None:
        while True:
            self.peak[self._stage] = max(self.peak[self._stage], resident())
            time.sleep(0.05)


def resident() -> int:
    """Bytes of memory that this process takes now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def planted(events: int, users: int, items: int, *, seed: int = 0) -> Dataset:
    """Draw a log with tastes, popularity and items that go together."""
    rng = np.random.default_rng(seed)
    tastes = max(4, items // 300)
    taste = rng.integers(tastes, size=items)
    of_taste = [np.flatnonzero(taste == one) for one in range(tastes)]
    shares = [np.cumsum(1.0 / np.arange(1, len(rows) + 1) ** 0.8) for rows in of_taste]
    near = np.stack([rng.choice(of_taste[taste[item]], 4) for item in range(items)])
    likes = rng.integers(tastes, size=(users, 2))
    activity = rng.permutation(1.0 / np.arange(1, users + 1) ** 0.5)
    who = rng.choice(users, size=events, p=activity / activity.sum())
    last, chosen = np.full(users, -1), np.empty(events, np.int64)
    lots, goes_on, which = rng.random(events), rng.random(events) < GOES_ON, rng.integers(4, size=events)
    second = (rng.random(events) < 0.3).astype(int)
    for at in range(events):
        user = who[at]
        if goes_on[at] and last[user] >= 0:
            item = near[last[user], which[at]]
        else:
            liked = likes[user, second[at]]
            place = np.searchsorted(shares[liked], lots[at] * shares[liked][-1])
            item = of_taste[liked][place]
        last[user] = chosen[at] = item
    rating = np.where(rng.random(events) < 0.75, 5.0, 3.0).astype(np.float32)
    interactions = Interactions(
        np.char.add("u", who.astype(str)),
        np.char.add("i", chosen.astype(str)),
        rating,
        1_700_000_000_000 + np.cumsum(rng.integers(1, 20_000, events)),
    )
    words = [f"{a} {b}" for a in SHADES for b in THINGS]
    described = [
        Item(f"i{item}", f"{words[taste[item] % len(words)]} {item}", {"kind": [f"k{taste[item] // 8}"]})
        for item in range(items)
    ]
    return Dataset("planted", interactions, described, [])


SHADES = ["red", "blue", "green", "white", "black", "golden", "silent", "broken", "hidden", "distant"]
THINGS = [
    "river",
    "mountain",
    "engine",
    "garden",
    "letter",
    "winter",
    "harbour",
    "mirror",
    "violin",
    "desert",
]


def main(
    events: Annotated[int, typer.Option()] = 100_000,
    users: Annotated[int, typer.Option()] = 10_000,
    items: Annotated[int, typer.Option()] = 30_000,
    epochs: Annotated[int, typer.Option()] = TrainConfig().epochs,
    seed: Annotated[int, typer.Option()] = 0,
    keep: Annotated[Path | None, typer.Option(help="Where the release stays.")] = None,
) -> None:
    """Train on a drawn log and print what each part took, and how the release ranks."""
    console, parts = Console(), Parts()
    parts.report("draw the log", 0.0)
    data = planted(events, users, items, seed=seed)
    parts.report("number and encode texts", 0.0)
    config, encoder = ModelConfig(), named_encoder("minilm")
    weights = dict(DEFAULT_ACTIONS)
    names = list(weights)
    liked, other = next(n for n in names if weights[n] >= 1), next(n for n in names if weights[n] < 1)
    actions = [liked if rating >= 4 else other for rating in data.interactions.ratings.tolist()]
    corpus = make_corpus(data, actions, weights, encoder, config.n_neighbours)
    del data, actions
    parts.report("windows", 0.0)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_release(
            corpus, weights, (keep or Path(folder)) / "release", config=config,
            train=TrainConfig(epochs=epochs, seed=seed), text_encoder=encoder, report=parts.report,
        )  # fmt: skip
    parts.report("", 0.0)
    table = Table(title=f"{events} events, {users} users, {items} items, {epochs} epochs at most")
    for column in ("part", "processor s", "clock s", "most memory, MB"):
        table.add_column(column, justify="right" if column != "part" else "left")
    for stage, seconds in parts.seconds.items():
        if stage:
            table.add_row(
                stage, f"{seconds:.1f}", f"{parts.clock[stage]:.1f}", f"{parts.peak[stage] / MB:.0f}"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table.add_row(
        "all", f"{sum(parts.seconds.values()):.1f}", f"{sum(parts.clock.values()):.1f}", f"{peak:.0f}"
    )
    console.print(table)
    for name in ("popularity", "item-kNN", "co-visits", "slatestream"):
        found = trained.release.metrics[name]
        console.print(
            f"{name}: Recall@10 {found['recall@10']:.4f}, NDCG@10 {found['ndcg@10']:.4f} "
            f"({int(found['users'])} users)"
        )
    for epoch in trained.release.training["history"]:
        console.print(f"loss {epoch['loss']:.4f}, on later events {epoch['validation']:.4f}")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
