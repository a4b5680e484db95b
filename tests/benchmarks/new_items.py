"""Do new items get a fair chance, and what does it cost: the demo's users, and films that come while they do.

Fifty films come when the visits begin: nothing is told of their past, neither to the release nor to the
worker. The best tenth of them, and the worst, are so by the users' own probabilities, which nobody is
told. Their fair exposure is what they have, in the same visits, where their past is known. So there are
three kinds of run, with the same luck: known, where they are like all others; and new, with and without
trials. What trials cost is told of the latter two, in clicks to be expected. Intervals are Student's 95 %
over seeds, each of which draws the films, too.

    python -m tests.benchmarks.new_items --data ML-100K --seeds 4   (--disliked: none is worth showing)

It trains one release a seed, and one that knows all, in the folder --out; a second run uses those that
are there.
"""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from model_core.data.datasets import Dataset
from streams.demo.run import UNTIL
from streams.demo.taste import Population, population
from streams.demo.users import Traffic
from streams.session.machine import machine
from tests.benchmarks.demo_in_memory import Run
from tests.benchmarks.inputs import faults_told, read_data
from tests.benchmarks.quality_topn import interval

N_NEW, TENTH, LEAST = 50, 5, 20
SLATES = 1_000  # of a window
USERS, RATE = 400, 40.0


def drawn(dataset: Dataset, people: Population, seed: int, *, disliked: bool) -> list[str]:
    """Draw films that are to be new, of those rated often enough for the users' taste to mean something.

    Parameters
    ----------
    disliked : of the quarter of these that the users like least
    """
    names, counts = np.unique(dataset.interactions.item_ids, return_counts=True)
    names = names[counts >= LEAST]
    if disliked:
        liked = dict(zip(people.item_ids, people.click.mean(0).tolist(), strict=True))
        names = names[np.argsort([liked[str(name)] for name in names])[: len(names) // 4]]
    chosen = np.random.default_rng([seed, 3]).choice(names, N_NEW, replace=False)
    return [str(name) for name in np.sort(chosen)]


def without(data: Path, new: list[str], out: Path) -> Path:
    """Write the data set without the events of some items."""
    out.mkdir(parents=True, exist_ok=True)
    for file in data.iterdir():
        if file.suffix != ".inter":
            shutil.copy(file, out / f"{out.name}{file.suffix}")
            continue
        head, *rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
        at = [name.split(":")[0] for name in head.rstrip("\n").split("\t")].index("item_id")
        gone = set(new)
        kept = [row for row in rows if row.rstrip("\n").split("\t")[at] not in gone]
        (out / f"{out.name}.inter").write_text("".join([head, *kept]), encoding="utf-8")
    return out


def trained(data: Path, out: Path) -> Path:
    """Train a release as the demo does."""
    if not (out / "manifest.json").exists():
        told = ["--data", str(data), "--until", str(UNTIL), "--epochs", "3", "--seed", "0", "--out", str(out)]
        subprocess.run([sys.executable, "-m", "streams.cli", "train", *told], check=True, stdout=sys.stderr)
    return out


def exposure(run: Run, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Positions that items have in each thousand slates: (windows,) float64."""
    counts = np.array([np.isin(slate, rows).sum() for slate in run.shown], np.float64)
    return counts[: len(counts) // SLATES * SLATES].reshape(-1, SLATES).sum(axis=1)


def main(
    data: Annotated[Path, typer.Option(help="Folder of RecBole atomic files.")],
    seeds: Annotated[int, typer.Option(min=2)] = 4,
    slates: Annotated[int, typer.Option(min=SLATES)] = 4_000,
    policy: Annotated[str, typer.Option(help="As of the worker's settings.")] = "thompson",
    share: Annotated[list[float], typer.Option(help="trial_share; repeatable. Unset: the default.")] = [],  # noqa: B006
    disliked: Annotated[bool, typer.Option(help="The new films are such as users like least.")] = False,
    out: Annotated[Path, typer.Option(help="Folder in which releases stay.")] = Path("build/new-items"),
) -> None:
    """Print exposures by thousands of slates, and what trials cost."""
    dataset, data = read_data(data), data.expanduser()
    whole = trained(data, out / "whole")
    kinds: dict[str, dict[str, Any]] = {"no trials": {"trial_share": 0.0}}
    kinds |= {f"trials {one}": {"trial_share": one} for one in share} or {"trials": {}}
    print(f"{machine()}; {seeds} seeds, {slates:,} slates, policy {policy}, {N_NEW} new films", flush=True)
    found: dict[str, list[list[NDArray[np.float64]]]] = {}
    clicks: dict[str, list[float]] = {}
    for seed in range(seeds):
        people = population(dataset, until=UNTIL, n_users=USERS, seed=seed)
        new = drawn(dataset, people, seed, disliked=disliked)
        mark = f"disliked-{seed}" if disliked else str(seed)
        release = trained(without(data, new, out / f"data-{mark}"), out / f"without-{mark}")
        rows = np.array([people.item_ids.index(name) for name in new])
        best = rows[np.argsort(-people.click[:, rows].mean(0))]
        traffic = Traffic(slates / RATE * 1.1, RATE, seed=seed)
        runs: dict[str, tuple[Path, list[str], dict[str, Any]]] = {"known": (whole, [], {"trial_share": 0.0})}
        runs |= {name: (release, new, more) for name, more in kinds.items()}
        for name, (folder, hidden, more) in runs.items():
            run = Run(dataset, traffic, USERS, hidden)
            asyncio.run(run.play(folder, policy, **more))
            of = [exposure(run, rows) for rows in (best[:TENTH], best[-TENTH:], rows)]
            found.setdefault(name, []).append(of)
            clicks.setdefault(name, []).append(float(np.array(run.expected)[:slates, 0].mean()))
            told = "; ".join(str(one.astype(int).tolist()) for one in of)
            print(f"seed {seed}, {name}: {clicks[name][-1]:.4f} clicks an item; {told}", flush=True)
    print(f"\npositions in each {SLATES:,} slates; and of the fair ones")
    for name, each in found.items():
        for which, part in enumerate((f"best {TENTH}", f"worst {TENTH}", f"all {N_NEW}")):
            of = np.stack([one[which] for one in each])
            fair = np.stack([one[which] for one in found["known"]])
            means = ", ".join(interval(window.tolist(), 0) for window in of.T)
            shares = ", ".join(f"{a:.2f}" for a in of.sum(0) / np.maximum(fair.sum(0), 1))
            print(f"{name:>12}, {part}: {means}; {shares}")
    for name in list(kinds)[1:]:
        less = [a / b - 1 for a, b in zip(clicks[name], clicks["no trials"], strict=True)]
        print(f"{name}: clicks to be expected, less those without: {interval(less)} of them")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
