"""What an ensemble ranks better than one network, and what it costs: next items on Beauty, leave-one-out.

    python -m tests.benchmarks.quality_ensemble --seeds 3 --members 3 --dim 48

Data and protocol are those of `quality_sequential`, where networks pay: on ML-100K a training leaves them
out. For each seed one network of width `--width` and several of width `--dim` are trained, the first of
them from the same seed; with `--no-attributes` they know nothing of items but their ids. The several are
put side by side as a release with `ensemble` has them: a score is their mean. Each ranks alone, and
blended with counts (and attributes) by weights fitted on the validation. Differences are paired over
users, whose values are averaged over seeds first, 95 %. Milliseconds are of the processor, for graphs of
releases of these sizes with random weights on random requests (as `slatestream bench score` measures
them), each in turn. Trainings stay in the folder --out, and a second run uses those that are there.
"""

import platform
import statistics
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model_core.evaluation.topn import estimate, paired_difference
from model_core.network.config import ModelConfig
from model_core.release.scorer import Scorer
from model_core.signals.config import SignalConfig
from model_core.training.networks import NEXT_SEED
from streams.bench.graphs import time_scorer
from streams.bench.world import random_release
from tests.benchmarks.inputs import faults_told
from tests.benchmarks.quality_sequential import FILES, RECIPES, Data, Recipe, load, places, trained
from tests.benchmarks.rivals.sequences import place_metrics
from tests.benchmarks.rivals.sequential import HistoryModel, score_users, side_by_side
from tests.benchmarks.rivals.sequential_signals import fit_signals

METRICS = ("HR@10", "NDCG@10")
ROUNDS, SECONDS = 5, 0.5
REQUESTS = (1, 32)
Found = dict[str, NDArray[np.float64]]


def main(
    data: Annotated[str, typer.Option(help=", ".join(FILES))] = "beauty",
    folder: Annotated[Path, typer.Option(help="of the data sets")] = Path("../shared/data"),
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    members: Annotated[int, typer.Option(min=2)] = 3,
    dim: Annotated[int, typer.Option(min=2, help="Width of a member of the ensemble.")] = ModelConfig().dim,
    width: Annotated[int, typer.Option(min=2, help="Width of the one network.")] = ModelConfig().dim,
    out: Annotated[Path, typer.Option(help="Folder in which trainings stay.")] = Path("build/ensemble"),
    attributes: Annotated[bool, typer.Option(help="Read what items are said to be.")] = True,
    timed: Annotated[bool, typer.Option(help="Time the graphs, too.")] = True,
) -> None:
    """Train, rank, time, and print."""
    if data not in FILES:
        raise typer.BadParameter(f"must be in {sorted(FILES)}, got {data!r}", param_hint="--data")
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    console, loaded, recipe = Console(width=120), load(data, folder), replace(RECIPES[data], dim=width)
    narrow, model = replace(recipe, dim=dim), "ours" if attributes else "without attributes"
    console.print(f"{platform.machine()}, {data}, {model}, {len(loaded.test):,} users, seeds 0..{seeds - 1}")
    found = [_measure(loaded, model, recipe, narrow, members, seed, out, console) for seed in range(seeds)]
    _show(console, {name: np.stack([one[name] for one in found]) for name in found[0]})
    if timed:
        sizes = {1: width, members: dim}
        _time(console, {n: _release(out, recipe, n, of) for n, of in sizes.items()}, loaded.train.n_items)


def _measure(
    data: Data,
    model: str,
    recipe: Recipe,
    narrow: Recipe,
    members: int,
    seed: int,
    out: Path,
    console: Console,
) -> Found:
    """Metrics of each user by each network of a seed: (len(METRICS), n_users), the one network's first."""
    train = partial(_trained, data, model, out=out, console=console)
    one = train(recipe, seed)
    several = [train(narrow, seed + n * NEXT_SEED) for n in range(members)]
    named = {f"one of {recipe.dim}": one}
    if narrow.dim != recipe.dim:
        named[f"one of {narrow.dim}"] = several[0]
    named[f"{members} of {narrow.dim}"] = side_by_side(several)
    edges = data.edges if model == "ours" else None
    counts = fit_signals(data.train, edges, SignalConfig(read_decay=recipe.read_decay))
    ranked = places(data, [partial(score_users, network) for network in named.values()], counts)
    found: Found = {}
    for part, more in (("alone", ""), ("blend", " + counts")):
        for name, (of, _) in zip(named, ranked, strict=True):
            metrics = place_metrics(of[part])
            found[name + more] = np.stack([metrics[metric] for metric in METRICS])
    told = ", ".join(f"{name} {rows[0].mean():.4f}" for name, rows in found.items())
    console.print(f"seed {seed}, {METRICS[0]}: {told}")
    return found


def _trained(
    data: Data, model: str, recipe: Recipe, seed: int, *, out: Path, console: Console
) -> HistoryModel:
    """Train a network, or read the one that lies in the folder."""
    kind = "" if model == "ours" else f"-{model.replace(' ', '-')}"
    state = out / f"{data.name}{kind}-{recipe.dim}-{seed}.pt"
    network, note, spent = trained(data, model, seed, "cpu", None, state, recipe)
    console.print(f"network of {recipe.dim}, seed {seed}: {spent[1]:.0f} s of processor time, {note}")
    return cast(HistoryModel, network)


def _show(console: Console, found: Found) -> None:
    """Print means over users and seeds, and what each model is ahead of those before it, in the same way."""
    means, leads = Table(title="Means over users and seeds"), Table(title="Differences, 95 % over users")
    for table, names in ((means, ("networks",)), (leads, ("networks", "less"))):
        for column in (*names, *METRICS):
            table.add_column(column, justify="right")
    for name, rows in found.items():
        means.add_row(name, *(f"{estimate(rows[:, k].mean(0)).mean:.4f}" for k in range(len(METRICS))))
    for other, name in combinations(found, 2):
        if other.endswith("counts") == name.endswith("counts"):
            pairs = [paired_difference(found[name][:, k], found[other][:, k]) for k in range(len(METRICS))]
            leads.add_row(name, other, *(f"{of.mean:+.4f} [{of.low:+.4f}, {of.high:+.4f}]" for of in pairs))
    console.print(means, leads)


def _release(out: Path, recipe: Recipe, networks: int, dim: int) -> Path:
    """Release of random weights with networks as the recipe has them."""
    config = ModelConfig(ensemble=networks, dim=dim, layers=recipe.layers, history_length=recipe.length)
    return random_release(out / f"random-{networks}-of-{dim}-{recipe.layers}", config=config)


def _time(console: Console, folders: dict[int, Path], items: int) -> None:
    """Print milliseconds of the processor for a batch, medians of rounds in turn."""
    table = Table(title="Graphs alone, ms of the processor a batch")
    for column in ("items", "requests", *(f"networks: {n}" for n in folders), "times"):
        table.add_column(column, justify="right")
    scorers = {n: Scorer(folder) for n, folder in folders.items()}
    for requests in REQUESTS:
        taken: dict[int, list[float]] = {n: [] for n in scorers}
        for _ in range(ROUNDS):
            for n, scorer in scorers.items():
                taken[n].append(time_scorer(scorer, requests, items, seconds=SECONDS).cpu_ms)
        ms = [statistics.median(of) for of in taken.values()]
        table.add_row(f"{items:,}", str(requests), *(f"{one:.2f}" for one in ms), f"{ms[-1] / ms[0]:.2f}")
    console.print(table)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
