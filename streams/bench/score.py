"""`slatestream bench score`: the graphs of a release alone, by batch, catalogue and precision."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from rich.console import Console

from model_core.network.config import MAX_MEMBERS, ModelConfig
from model_core.release.scorer import Scorer
from streams.bench.graphs import time_scorer
from streams.bench.options import split, whole_numbers
from streams.bench.report import plot_curves, print_table, speaker, write_report
from streams.bench.steps import Steps
from streams.bench.world import random_release
from streams.errors import ConfigurationError
from streams.releases.options import check_release
from streams.session.machine import machine
from streams.session.shutdown import clean_exit

PRECISIONS = ("fp32", "int8", "fp16")
GPU = "CUDAExecutionProvider"
WIDTH = ModelConfig().dim


@dataclass(frozen=True, slots=True)
class Scored:
    """One cell: milliseconds of a batch, by the clock and of the processor."""

    provider: str
    precision: str
    items: int
    batch: int
    ms: float
    cpu_ms: float


def score_command(
    batches: Annotated[str, typer.Option(help="Requests scored together, comma-separated.")] = "1,8,32",
    items: Annotated[
        str, typer.Option(help="Sizes of the catalogue, comma-separated.")
    ] = "1700,20000,200000,1000000",
    precisions: Annotated[
        str, typer.Option(help=f"Of {', '.join(PRECISIONS)}, comma-separated.")
    ] = "fp32,int8",
    seconds: Annotated[float, typer.Option(min=0, help="Of each measurement.")] = 2.0,
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU provider.")] = 1,
    release: Annotated[
        Path | None,
        typer.Option(help="Release to run; unset, one of random weights is made."),
    ] = None,
    ensemble: Annotated[
        int, typer.Option(min=1, max=MAX_MEMBERS, help="Networks of the release of random weights.")
    ] = 1,
    dim: Annotated[int, typer.Option(min=2, help="Width of each of these networks.")] = WIDTH,
    out: Annotated[Path, typer.Option(help="Folder for score.json and the compressed releases.")] = Path(
        "build/bench"
    ),
) -> None:
    """Measure what scoring costs by itself: no topics, no policy, no event loop.

    Catalogues and requests are random, with histories and signals as dense as a worker's. On a machine with a
    GPU the graphs run there; where there is none the last line says so. The request that is cheapest in a
    large batch says what a worker could do at most; the batch of one says what latency cannot be below.

    Example: slatestream bench score --items 20000 --batches 1,32 --precisions fp32

    slatestream bench score --items 20000 --precisions fp32 --ensemble 3 --dim 48
    """
    check_release(release)
    console = Console()
    say = speaker(console)
    wanted = split(precisions)
    if not wanted or not set(wanted) <= set(PRECISIONS):
        raise ConfigurationError(f"--precisions must be among {', '.join(PRECISIONS)}, got {precisions!r}")
    try:
        config = ModelConfig(ensemble=ensemble, dim=dim)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    sizes, many = whole_numbers(items), whole_numbers(batches)
    steps = Steps([seconds + size * n / 2e6 for _ in wanted for size in sizes for n in many], say)
    scored: list[Scored] = []
    with clean_exit(console):
        other = ([] if ensemble == 1 else [str(ensemble)]) + ([] if dim == WIDTH else [f"of-{dim}"])
        full = release or random_release(out / "-".join(["random-release", *other]), config=config)
        for precision in wanted:
            scorer = Scorer(in_precision(full, precision, out), threads=threads)
            for size in sizes:
                for n in many:
                    steps.begin(f"{precision}, {size:,} items, {n} requests")
                    taken = time_scorer(scorer, n, size, seconds=seconds)
                    scored.append(Scored(scorer.provider, precision, size, n, taken.ms, taken.cpu_ms))
    print_table(
        console,
        "The graphs alone, medians",
        ("provider", "precision", "items", "batch", "ms", "ms a request", "CPU ms a request", "requests/s"),
        [row(one) for one in scored],
    )
    if scored[0].provider != GPU:
        say("not measured on a GPU: there is none here, or its provider is not installed")
    say(f"machine: {machine()}")
    write_report(out / "score.json", {"threads": threads, "scored": [described(one) for one in scored]}, say)
    curves: dict[str, list[tuple[float, float]]] = {}
    for one in scored:
        curves.setdefault(f"{one.precision}, batch of {one.batch}", []).append(
            (one.items, one.ms / one.batch)
        )
    if len(sizes) > 1:
        plot_curves(
            out / "score.png", curves, x="items", y="ms a request", title="Scoring alone", say=say
        )  # fmt: skip


def in_precision(release: Path, precision: str, out: Path) -> Path:
    """Return the folder of a release in a precision, made when it is not there."""
    if precision == "fp32":
        return release
    from model_core.release.compress import compress_release

    compress_release(release, out / f"release-{precision}", cast(Literal["int8", "fp16"], precision))
    return out / f"release-{precision}"


def row(one: Scored) -> list[Any]:
    """Return a line of the table."""
    provider = one.provider.removesuffix("ExecutionProvider")
    each = one.ms / one.batch
    return [provider, one.precision, one.items, one.batch, one.ms, each, one.cpu_ms / one.batch, 1000 / each]


def described(one: Scored) -> dict[str, Any]:
    """Return a cell for the report."""
    return {
        "provider": one.provider, "precision": one.precision, "items": one.items, "batch": one.batch,
        "ms": one.ms, "cpu_ms": one.cpu_ms,
    }  # fmt: skip
