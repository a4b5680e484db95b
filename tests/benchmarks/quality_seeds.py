"""How much the served model moves with the seed, and what a training costs: ML-100K in time order.

    python -m tests.benchmarks.quality_seeds --until 0.6 --seeds 5

A release is trained for each seed as `slatestream train` does it, on the first part of the events, and asked
once at the split; all items are ranked, those met left out. With several `--epochs` the same seeds are
trained for each, and compared pair by pair. Seconds are of the processor, from the events to the release.
Beside them stand the signals that every score is given, without any network (`signals_alone`).
"""

import platform
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from model_core.inputs.corpus import Corpus, make_corpus, rating_actions
from model_core.training.recipe import Recipe, read_recipe
from model_core.training.train import train_release
from streams.items.text_encoder import named_encoder
from streams.settings import Settings
from tests.benchmarks.inputs import DataFolder, faults_told, read_data
from tests.benchmarks.signals_alone import at_split

METRICS = ("recall@10", "ndcg@10")


def main(
    data: DataFolder = None,
    until: Annotated[float, typer.Option(help="Train on this first fraction by time.")] = 0.6,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    epochs: Annotated[list[int] | None, typer.Option(min=1, help="May be repeated.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file, as of `slatestream train`.")] = None,
) -> None:
    """Train every seed and print means, spreads and differences."""
    console = Console()
    base = Recipe() if recipe is None else read_recipe(recipe)
    dataset, settings = read_data(data), Settings()
    corpus = make_corpus(
        dataset,
        rating_actions(dataset.interactions),
        settings.actions,
        named_encoder(settings.text_encoder),
        base.model.n_neighbours,
    )
    console.print(
        f"{platform.machine()}, torch {torch.__version__}, {base.train.threads} thread(s); {len(corpus.log)} "
        f"events, trained on {until:.0%}, seeds 0..{seeds - 1}"
    )
    weights, alone = at_split(corpus, base.signals, int(until * len(corpus.log)))
    console.print(
        "signals alone, weights of co-visits, popularity, EASE "
        + ", ".join(map(str, weights))
        + ": "
        + ", ".join(f"{name} {alone[name]:.4f}" for name in METRICS)
    )
    found: dict[int, NDArray[np.float64]] = {}
    for n in epochs or [base.train.epochs]:
        rows = []
        for seed in range(seeds):
            ours, floor, seconds = _measure(
                corpus, dict(settings.actions), base.changed(train={"seed": seed, "epochs": n}), until
            )
            rows.append([*(ours[name] for name in METRICS), seconds])
            console.print(
                f"{n} epochs, seed {seed}: "
                + ", ".join(f"{name} {ours[name]:.4f} (popularity {floor[name]:.4f})" for name in METRICS)
                + f", {seconds:.0f} s of processor time"
            )
        found[n] = np.array(rows)
    _show(console, found, int(ours["users"]))


def _measure(
    corpus: Corpus, weights: dict[str, float], recipe: Recipe, until: float
) -> tuple[dict[str, float], dict[str, float], float]:
    folder = Path(tempfile.mkdtemp())
    begin = time.process_time()
    try:
        trained = train_release(
            corpus, weights, folder / "release", until=until, config=recipe.model, train=recipe.train,
            signals=recipe.signals,
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)
    metrics = trained.release.metrics
    return metrics["slatestream"], metrics["popularity"], time.process_time() - begin


def _show(console: Console, found: dict[int, NDArray[np.float64]], users: int) -> None:
    """Print means over seeds with Student's 95 % intervals, and differences to the first, paired."""
    table = Table(title=f"{users} users; means over seeds, 95 %")
    for column in ("epochs", *METRICS, "processor s", *(f"{name} against the first" for name in METRICS)):
        table.add_column(column, justify="right")
    first = next(iter(found.values()))
    for n, rows in found.items():
        deltas = ["" if rows is first else _mean(rows[:, k] - first[:, k]) for k in range(len(METRICS))]
        means = [_mean(rows[:, k]) for k in range(len(METRICS))]
        table.add_row(str(n), *means, f"{rows[:, -1].mean():.0f}", *deltas)
    console.print(table)


def _mean(values: NDArray[np.float64]) -> str:
    if len(values) < 2:
        return f"{values.mean():.4f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.4f} ± {half:.4f}"


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
