"""What a release's compressed variants cost and bring: size, time, and the slates they change.

    python -m tests.benchmarks.quality_precision --release FOLDER

The users of the release's own test (ML-100K, the split it was trained with) are asked once each by every
variant, and NDCG@10 is taken on what follows. Times are of the ranker, whole catalogue, on one thread; they
are compared within the run, alternating between variants.
"""

import platform
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from model_core.evaluation.evaluate import measure, start_replay
from model_core.release.compress import compress_release
from model_core.release.scorer import Scorer
from tests.benchmarks.inputs import DataFolder, faults_told, read_scorer
from tests.benchmarks.released import read_release_test

TOP = 10
BATCHES = (1, 32)


def main(
    release: Annotated[Path, typer.Option(help="A release trained on ML-100K with `train --until`.")],
    data: DataFolder = None,
    repeats: Annotated[int, typer.Option(min=1)] = 200,
) -> None:
    """Compress, serve and compare."""
    console = Console()
    version, corpus, split, moment, truth = read_release_test(release, data)
    folder = Path(tempfile.mkdtemp())
    try:
        scorers = {"fp32": read_scorer(release)}
        for precision in ("fp16", "int8"):
            compress_release(release, folder / precision, precision)
            scorers[precision] = Scorer(folder / precision)
        tops, requests, vectors = {}, {}, {}
        for name, scorer in scorers.items():
            replay, vectors[name] = start_replay(scorer, corpus)
            replay.advance(split)
            users = truth.users
            parts = [users[begin : begin + 32] for begin in range(0, len(users), 32)]
            asked = [replay.requests(part, np.full(len(part), moment)) for part in parts]
            tops[name] = np.concatenate([scorer.score(r, vectors[name]).rows[:, :TOP] for r in asked])
            requests = {size: replay.requests(users[:size], np.full(size, moment)) for size in BATCHES}
        times = {(name, size): [] for name in scorers for size in BATCHES}
        for _ in range(repeats):
            for name, size in times:
                began = time.perf_counter()
                scorers[name].score(requests[size], vectors[name])
                times[name, size].append(time.perf_counter() - began)
        console.print(
            f"{platform.machine()}, {scorers['fp32'].provider}, one thread; release {version}; "
            f"{len(truth.users)} users, {corpus.log.n_items} items"
        )
        table = Table("variant", "graphs, MB", "NDCG@10", "top 10 in common", "1 request, ms", "32, ms")
        for name in scorers:
            where = release if name == "fp32" else folder / name
            size = sum(file.stat().st_size for file in where.glob("*.onnx")) / 1e6
            common = np.mean(
                [len(np.intersect1d(*pair)) for pair in zip(tops[name], tops["fp32"], strict=True)]
            )
            table.add_row(
                name,
                f"{size:.2f}",
                f"{measure(tops[name], truth.relevant)['ndcg@10']:.4f}",
                f"{common / TOP:.3f}",
                *(f"{1e3 * float(np.median(times[name, size])):.2f}" for size in BATCHES),
            )
        console.print(table)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
