"""What the served release is worth on other data sets, beside what each is easily recommended by.

    python -m tests.benchmarks.quality_served --data lastfm --seeds 3

For each seed a release is trained on the training part as `slatestream train` does it, exported, and asked
through its graphs for the best items of the whole catalogue, by the set's own protocol (`served_logs`). It
sees nothing of what is asked for, and the validation part is read by nothing but the release's own
metrics. Beside it stand the baselines that every release is held against, as of the same moment; EASE is the
release's own, with its penalty and low pass. Means are over seeds with Student's 95 %, differences are
paired over users, whose values are averaged over seeds. A release that lies in --out is asked again.
"""

import platform
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from model_core.evaluation.evaluate import RELEASE, future, rank, start_replay
from model_core.evaluation.topn import estimate, paired_difference, ranking_metrics
from model_core.inputs.corpus import Corpus, make_corpus
from model_core.release.scorer import Scorer
from model_core.training.recipe import Recipe, read_recipe
from model_core.training.train import train_release
from streams.items.text_encoder import named_encoder
from streams.settings import Settings
from tests.benchmarks.inputs import faults_told
from tests.benchmarks.released import made_up
from tests.benchmarks.served_logs import LOGS, ServedLog

METRICS = ("recall", "ndcg", "mrr", "hit")
Found = dict[str, dict[str, NDArray[np.float64]]]
"""By model and metric, of each user."""


def main(
    data: Annotated[str, typer.Option(help="comma-separated, of " + ", ".join(LOGS))] = "lastfm",
    folder: Annotated[Path, typer.Option(help="of the data sets")] = Path("../shared/data"),
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    first_seed: Annotated[int, typer.Option(help="of the split, too, where that is drawn")] = 0,
    recipe: Annotated[Path | None, typer.Option(help="TOML file, as of `slatestream train`")] = None,
    out: Annotated[Path | None, typer.Option(help="folder in which releases stay")] = None,
) -> None:
    """Train, ask, and print."""
    names = [name.strip() for name in data.split(",")]
    if unknown := set(names) - set(LOGS):
        raise typer.BadParameter(f"must be of {list(LOGS)}, got {sorted(unknown)}", param_hint="--data")
    base = Recipe() if recipe is None else read_recipe(recipe)
    print(f"{platform.machine()}, torch {torch.__version__}, {base.train.threads} thread(s)", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            found = []
            for seed in range(first_seed, first_seed + seeds):
                log = LOGS[name](folder, seed)
                seeded = base.changed(train={"seed": seed})
                found.append(_measure(log, seeded, (out or Path(scratch)) / f"{name}-{seed}"))
                print(f"  {name}, seed {seed}: {_line(found[-1][RELEASE])}", flush=True)
            _show(name, log, found)


def _measure(log: ServedLog, recipe: Recipe, place: Path) -> Found:
    """Train a release, unless it is there, and rank by it and by the baselines."""
    settings, n = Settings(), len(log.dataset.interactions)
    corpus = make_corpus(
        log.dataset, log.actions, settings.actions, named_encoder(settings.text_encoder),
        recipe.model.n_neighbours,
    )  # fmt: skip
    begun = time.process_time()
    if not place.exists():
        train_release(
            corpus, dict(settings.actions), place, until=(log.trained + 0.5) / n,
            config=recipe.model, train=recipe.train, signals=recipe.signals,
        )  # fmt: skip
    spent = time.process_time() - begun
    scorer = Scorer(place, threads=recipe.train.threads)
    tops, relevant = _lists(scorer, corpus, log)
    print(f"  {place.name}: {spent:.0f} s of processor time; {made_up(place)}", flush=True)
    return {name: ranking_metrics(top, relevant) for name, top in tops.items()}


def _lists(
    scorer: Scorer, corpus: Corpus, log: ServedLog
) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.bool_]]:
    """Ask for every user of whom something is wanted later.

    Returns
    -------
    tops : by model (n, k) item rows, best first
    relevant : (n, n_items) bool
    """
    truth = future(corpus.log, log.known, newcomers=True)
    replay, vectors = start_replay(scorer, corpus)
    replay.advance(log.asked)
    barred = np.zeros_like(truth.relevant)
    if log.barred:
        rows = np.arange(log.trained, log.known)
        rows = rows[np.isin(corpus.log.users[rows], truth.users)]
        barred[np.searchsorted(truth.users, corpus.log.users[rows]), corpus.log.items[rows]] = True
    ranked = rank(scorer, replay, vectors, truth, k=log.k + int(barred.sum(1).max()))
    tops = {}
    for name, top in ranked.tops.items():
        left_out = np.take_along_axis(barred, top, 1)
        order = np.argsort(left_out, axis=1, kind="stable")[:, : log.k]
        tops[name] = np.take_along_axis(top, order, 1)
    return tops, truth.relevant


def _line(of: dict[str, NDArray[np.float64]]) -> str:
    return ", ".join(f"{metric} {np.nanmean(of[metric]):.4f}" for metric in METRICS)


def _show(name: str, log: ServedLog, found: list[Found]) -> None:
    """Print means over seeds, and what the release is ahead of each baseline by."""
    users = len(found[0][RELEASE]["ndcg"])
    print(f"\n{name}, {users} users, seeds: {len(found)}, top {log.k}")
    print(f"{'':<20}" + "".join(f"{metric:>18}" for metric in METRICS) + f"{'slatestream - it, NDCG':>36}")
    for model in found[0]:
        cells = []
        for metric in METRICS:
            over = estimate(np.array([np.nanmean(one[model][metric]) for one in found]))
            cells.append(f"{over.mean:.4f}" + (f" ± {over.high - over.mean:.4f}" if len(found) > 1 else ""))
        ahead = ""
        if model != RELEASE:
            pair = [np.stack([one[which]["ndcg"] for one in found]) for which in (RELEASE, model)]
            lead = paired_difference(*pair)
            ahead = f"{lead.mean:+.4f} [{lead.low:+.4f}, {lead.high:+.4f}]"
        print(f"{model:<20}" + "".join(f"{cell:>18}" for cell in cells) + f"{ahead:>36}", flush=True)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
