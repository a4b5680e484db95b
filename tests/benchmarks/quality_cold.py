"""New items: a fifth of ML-100K's films is held out whole, then recommended by what is known of them.

Run `python -m tests.benchmarks.quality_cold` from the repository's root. Films have a title, a year, genres,
a plot and named triples (people, companies, countries, languages, ratings by age). Likes are ratings of 4 and
more. Every user who likes a held-out film is asked for ten, once among the held-out films only, once among
all films that they have not met (there the right answers are held-out films alone). The mapping is the one a
release carries, and chooses its regularisation on the other films. Where the served model is trained, it is
given the mapping as in a worker, or only its networks.
"""

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from model_core.evaluation.topn import estimate, paired_difference, ranking_metrics, top_items
from model_core.signals.ease import Ease
from streams.items.text_encoder import named_encoder
from tests.benchmarks.cold_films import (
    FLOORS,
    Films,
    fit_known,
    floors,
    hold_out,
    mapped,
    read_films,
)
from tests.benchmarks.cold_served import K, run_product
from tests.benchmarks.inputs import DataFolder, check_files, faults_told

SIDE = Path(__file__).resolve().parents[3] / "shared/data/movies-sidedata"
ABLATIONS = {"mapping": (), "mapping by links alone": ("text",), "mapping by text alone": ("links",)}


def linear(films: Films, ease: Ease, known: np.ndarray) -> np.ndarray:
    """Scores by EASE of all items: (n_users, n_items)."""
    likes = np.zeros(films.liked.shape, np.float32)
    likes[:, known] = films.liked[:, known]
    return likes @ ease.dense()


def recall(scores: np.ndarray, barred: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    return ranking_metrics(top_items(scores, barred, K), relevant)


@dataclass
class Results:
    """By model, one entry a seed: metrics by user (n_users,)."""

    among_new: dict[str, list[dict[str, np.ndarray]]]
    among_all: dict[str, list[dict[str, np.ndarray]]]


def measure(
    results: Results, name: str, films: Films, known: np.ndarray, new: np.ndarray, scores: Any
) -> None:
    """Note how scores (n_users, n_items), or a pair of lists, do."""
    relevant = np.zeros_like(films.liked)
    relevant[:, new] = films.liked[:, new]
    if isinstance(scores, tuple):
        first, second = scores
    else:
        barred = np.zeros_like(films.met)
        barred[:, known] = True
        first = top_items(scores, barred, K)
        barred[:, known] = films.met[:, known]
        second = top_items(scores, barred, K)
    results.among_new.setdefault(name, []).append(ranking_metrics(first, relevant))
    results.among_all.setdefault(name, []).append(ranking_metrics(second, relevant))


def report(title: str, results: dict[str, list[dict[str, np.ndarray]]], chance: float | None) -> None:
    print(f"\n{title}\n{'':<38}{'recall@10':>20}{'NDCG@10':>20}{'hit@10':>20}{'seeds':>7}")
    if chance is not None:
        print(f"{'random (expected)':<38}{chance:>11.4f}")
    means = {}
    for name, seeds in results.items():
        cells = []
        for metric in ("recall", "ndcg", "hit"):
            found = estimate(np.array([np.nanmean(seed[metric]) for seed in seeds]))
            half = f" ± {found.high - found.mean:.4f}" if np.isfinite(found.high) else ""
            cells.append(f"{found.mean:.4f}{half}")
        means[name] = float(np.mean([np.nanmean(seed["recall"]) for seed in seeds]))
        print(f"{name:<38}" + "".join(f"{cell:>20}" for cell in cells) + f"{len(seeds):>7}")
    best = max(FLOORS, key=means.__getitem__)
    print(f"best floor: {best}; against it, recall@10 paired over users, 95 %:")
    for name, seeds in results.items():
        if name in FLOORS:
            continue
        ours, theirs = (
            np.stack([seed["recall"] for seed in one]) for one in (seeds, results[best][: len(seeds)])
        )
        found = paired_difference(ours, theirs)
        ratio = np.nanmean(ours, axis=1).mean() / np.nanmean(theirs, axis=1).mean()
        print(
            f"  {name:<38}{ratio:>6.2f} times, {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}], "
            f"p {found.p_value:.1g}"
        )


def report_both(results: Results, held: int) -> None:
    report(f"Among the {held} held-out films", results.among_new, K / held)
    report("Held-out films among all films not met", results.among_all, None)


def main(
    data: DataFolder = None,
    side: Annotated[Path, typer.Option(help="Folder with the films' plots and triples.")] = SIDE,
    seeds: Annotated[int, typer.Option(min=1, help="How many times a fifth is held out.")] = 5,
    product_seeds: Annotated[
        int, typer.Option(min=0, help="Of those, with the served model trained too.")
    ] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Of the served model.")] = 2,
) -> None:
    """Recommend films that nobody has met, beside category popularity, text neighbours and chance."""
    check_files(side, "links_ml100k.csv", "omdb_movies.jsonl.gz", "kg_omdb.tsv.gz")
    begun = time.perf_counter()
    torch.set_num_threads(1)
    encoder = named_encoder("minilm")
    films = read_films(data, side, encoder)
    n = len(films.items)
    print(
        f"{__doc__.split('Run')[0].strip()}\n{n} films, {n // 5} held out a seed, seeds 0 to {seeds - 1}, "
        f"served model: {product_seeds} seeds, {epochs} epochs\n"
        f"{platform.processor() or platform.machine()}, 1 thread, "
        f"Python {platform.python_version()}, torch {torch.__version__}",
        flush=True,
    )
    results = Results({}, {})
    for seed in range(seeds):
        known, new = hold_out(np.arange(n), seed)
        for name, scores in floors(films, known).items():
            measure(results, name, films, known, new, scores)
        ease = fit_known(films, known)
        for name, without in ABLATIONS.items():
            measure(results, name, films, known, new, linear(films, mapped(films, ease, new, without), known))
        print(f"seed {seed} done, {time.perf_counter() - begun:.0f} s", flush=True)
    report_both(results, n // 5)
    for seed in range(min(seeds, product_seeds)):
        known, new = hold_out(np.arange(n), seed)
        for name, lists in run_product(films, known, new, epochs).items():
            measure(results, name, films, known, new, lists)
        print(f"served model, seed {seed} done, {time.perf_counter() - begun:.0f} s", flush=True)
        report_both(results, n // 5)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
