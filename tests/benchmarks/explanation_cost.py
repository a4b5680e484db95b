"""What an explanation costs, and whether it keeps what it promises.

    python -m tests.benchmarks.explanation_cost --release FOLDER

Users of the release's own test (ML-100K, the split it was trained with) are asked for a slate, and the item
in front is explained as a worker does it: until no standard error is above the tolerance, or the budget is
spent. Everything is explained a second time with other random orders: where standard errors are honest, 95 %
of the differences between the two lie within 1.96 of their joint standard error.
"""

import platform
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model_core.data.batches import ItemBatch
from model_core.evaluation.evaluate import start_replay
from model_core.explanation.contributions import Attribution, explain
from model_core.inputs.replay import item_batch
from tests.benchmarks.inputs import DataFolder, faults_told, read_scorer
from tests.benchmarks.released import read_release_test

HISTORIES = ((1, 10), (11, 25), (26, 50))
"""Distinct items that the model reads."""


def main(
    release: Annotated[Path, typer.Option(help="A release trained on ML-100K with `train --until`.")],
    data: DataFolder = None,
    users: Annotated[int, typer.Option(min=1, help="At most, drawn at random.")] = 100,
    tolerance: Annotated[float, typer.Option(help="Standard error in logits.")] = 0.02,
    budget: Annotated[int, typer.Option(min=1, help="Coalitions at most.")] = 4096,
) -> None:
    """Explain the first item of every user's slate, twice."""
    console = Console()
    version, corpus, split, moment, truth = read_release_test(release, data)
    scorer = read_scorer(release)
    replay, vectors = start_replay(scorer, corpus)
    replay.advance(split)
    asked = np.random.default_rng(0).permutation(truth.users)[:users]
    described = item_batch(corpus)
    found: list[tuple[Attribution, Attribution, float, float]] = []
    for user in track(asked, description="explaining", console=console):
        request = replay.requests(np.array([user]), np.array([moment]))
        began = time.perf_counter()
        row = int(scorer.score(request, vectors).rows[0, 0])
        scoring = time.perf_counter() - began
        parts = _one(described, row)
        both, seconds = [], []
        for seed in (1, 2):
            began = time.perf_counter()
            both.append(
                explain(
                    scorer, request, vectors, row, parts,
                    rng=np.random.default_rng((seed, int(user))), tolerance=tolerance, budget=budget,
                )
            )  # fmt: skip
            seconds.append(time.perf_counter() - began)
        found.append((*both, min(seconds), scoring))
    console.print(
        f"{platform.machine()}, {scorer.provider}, one thread; release {version}; "
        f"{corpus.log.n_items} items; tolerance {tolerance:g}, budget {budget}"
    )
    table = Table(
        "history",
        "users",
        "ms, median",
        "p95",
        "slates",
        "runs",
        "error",
        "lacks",
        "within 1.96",
    )
    for least, most in HISTORIES:
        some = [entry for entry in found if least <= _history(entry[0]) <= most]
        if some:
            table.add_row(f"{least} to {most}", *_row(some))
    table.add_row("all", *_row(found))
    console.print(table)


def _one(batch: ItemBatch, row: int) -> ItemBatch:
    return ItemBatch(**{name: getattr(batch, name)[row : row + 1] for name in ItemBatch.__slots__})


def _history(attribution: Attribution) -> int:
    return sum(player.kind == "history" for player in attribution.players)


def _row(found: list[tuple[Attribution, Attribution, float, float]]) -> list[str]:
    seconds = np.array([entry[2] for entry in found])
    apart, errors = [], []
    for first, second, *_ in found:
        apart.append(np.abs(first.contributions - second.contributions))
        errors.append(np.hypot(first.errors, second.errors))
    gaps, joint = np.concatenate(apart), np.concatenate(errors)
    sampled = joint > 0
    within = f"{float((gaps[sampled] <= 1.96 * joint[sampled]).mean()):.3f}" if sampled.any() else "exact"
    return [
        str(len(found)),
        f"{1e3 * float(np.median(seconds)):.0f}",
        f"{1e3 * float(np.quantile(seconds, 0.95)):.0f}",
        f"{float(np.median(seconds / np.array([entry[3] for entry in found]))):.0f}x",
        f"{float(np.median([entry[0].runs for entry in found])):.0f}",
        f"{max(float(entry[0].errors.max(initial=0.0)) for entry in found):.3f}",
        f"{max(abs(entry[0].difference) for entry in found):.1e}",
        within,
    ]


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
