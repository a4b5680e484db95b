"""What an ensemble ranks better than one network, and what it costs: ML-100K, random splits.

    python -m tests.benchmarks.quality_ensemble --seeds 3 --members 3
    python -m tests.benchmarks.quality_ensemble --seeds 3 --members 3 --dim 48

For each seed a release of one network and one of several are trained on the training part of a split 8:1:1 by
users, as `slatestream train` does it; the ensemble's first member is the network that the other release has,
unless `--dim` makes members narrower. Each is asked once for every user, all items ranked but those met;
differences are paired over users, 95 %. Milliseconds are of the processor, for the graphs alone on random
requests (as `slatestream bench score` measures them), each in turn; `--out` keeps the releases, and a second
run uses those that are there.
"""

import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model_core.data.datasets import load_recbole
from model_core.evaluation.topn import estimate, paired_difference, ranking_metrics, top_items
from model_core.network.config import ModelConfig
from model_core.release.scorer import Scorer
from model_core.training.recipe import Recipe
from streams.bench.graphs import time_scorer
from tests.benchmarks.random_split import random_split
from tests.benchmarks.topn_release import release_scores

K, ROUNDS, SECONDS = 10, 5, 0.5
METRICS = ("recall", "ndcg")
SIZES = ((1_700, 1), (1_700, 32), (20_000, 1), (20_000, 32))


def main(
    data: Annotated[Path, typer.Option(help="ML-100K in RecBole's files.")] = Path(
        "~/.cache/slatestream/ml-100k"
    ),
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    members: Annotated[int, typer.Option(min=2)] = 3,
    dim: Annotated[int, typer.Option(min=2, help="Width of a member of the ensemble.")] = ModelConfig().dim,
    epochs: Annotated[int, typer.Option(min=1)] = 6,
    out: Annotated[Path | None, typer.Option(help="Folder in which the releases stay.")] = None,
) -> None:
    """Train, ask, time, and print."""
    console = Console(width=120)
    dataset, folder = load_recbole(data.expanduser()), out or Path(tempfile.mkdtemp())
    log = dataset.interactions
    item_rows = {item.item_id: row for row, item in enumerate(dataset.items)}
    _, users = np.unique(log.user_ids, return_inverse=True)
    items = np.array([item_rows[item_id] for item_id in log.item_ids.tolist()])
    console.print(f"{platform.machine()}, {len(log):,} events, {epochs} epochs, seeds 0..{seeds - 1}")
    found: dict[int, list[NDArray[np.float64]]] = {1: [], members: []}
    for seed in range(seeds):
        split = random_split(users, items, users.max() + 1, len(item_rows), seed=seed)
        for n, rows in found.items():
            sizes = {"ensemble": n} | ({"dim": dim} if n > 1 else {})
            recipe = Recipe().changed(train={"seed": seed, "epochs": epochs}, model=sizes)
            begun = time.process_time()
            scores, _ = release_scores(dataset, split, users, items, recipe, out=folder / f"{n}-{seed}")
            seconds = time.process_time() - begun
            met = split.train | split.validation
            reached = ranking_metrics(top_items(scores, met, K), split.test)
            rows.append(np.array([reached[name] for name in METRICS]))
            console.print(
                f"seed {seed}, networks {n}: NDCG@10 {np.nanmean(rows[-1][1]):.4f}, {seconds:.0f} s of "
                "processor time"
            )
    _show(console, {n: np.stack(rows) for n, rows in found.items()})
    _time(console, {n: folder / f"{n}-0" for n in found})


def _show(console: Console, found: dict[int, NDArray[np.float64]]) -> None:
    """Print means over users, and what several networks are ahead of one."""
    table = Table(title="Means over users, 95 %")
    for column in ("networks", *(f"{name}@{K}" for name in METRICS), *(f"{name}, ahead" for name in METRICS)):
        table.add_column(column, justify="right")
    one = found[1]
    for n, rows in found.items():
        means = [f"{estimate(np.nanmean(rows[:, k], 0)).mean:.4f}" for k in range(len(METRICS))]
        ahead = ["" for _ in METRICS]
        if n > 1:
            each = [paired_difference(rows[:, k], one[:, k]) for k in range(len(METRICS))]
            ahead = [f"{of.mean:+.4f} [{of.low:+.4f}, {of.high:+.4f}]" for of in each]
        table.add_row(str(n), *means, *ahead)
    console.print(table)


def _time(console: Console, folders: dict[int, Path]) -> None:
    """Print milliseconds of the processor for a batch, medians of rounds in turn."""
    table = Table(title="Graphs alone, ms of the processor a batch")
    for column in ("items", "requests", *(f"networks: {n}" for n in folders), "times"):
        table.add_column(column, justify="right")
    scorers = {n: Scorer(folder) for n, folder in folders.items()}
    for size, requests in SIZES:
        taken: dict[int, list[float]] = {n: [] for n in scorers}
        for _ in range(ROUNDS):
            for n, scorer in scorers.items():
                taken[n].append(time_scorer(scorer, requests, size, seconds=SECONDS).cpu_ms)
        ms = [statistics.median(of) for of in taken.values()]
        table.add_row(f"{size:,}", str(requests), *(f"{one:.2f}" for one in ms), f"{ms[-1] / ms[0]:.2f}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
