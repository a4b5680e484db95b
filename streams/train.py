"""`slatestream train`: a release from a dataset or from the topics."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from streams.errors import SlatestreamError
from streams.settings import Settings, load_settings
from streams.train_text import (
    BatchSize,
    LearningRate,
    Lora,
    MaxExamples,
    MaxLength,
    TextEncoderName,
    TextOptions,
    train_text,
)

if TYPE_CHECKING:
    from model_core.datasets import Dataset
    from model_core.train import Trained

STAGES = {
    "replay": "Replaying the log",
    "train": "Training",
    "finish": "Last epoch, with the latest events",
    "export": "Exporting and checking",
    "evaluate": "Measuring on what follows",
}
MODELS = ("popularity", "item-kNN", "co-visits", "slatestream")

Data = Annotated[Path | None, typer.Option(help="Folder with a dataset in RecBole's atomic-file format.")]
FromTopics = Annotated[bool, typer.Option("--from-topics", help="Train on `clicks` and `content` instead.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the result, replaced when it exists; build/releases/latest for a release."),
]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the interactions.")]
Until = Annotated[float, typer.Option(help="Train on this first fraction by time; test on the rest.")]
Task = Annotated[
    Literal["recommend", "ctr-text", "text-encoder"],
    typer.Option(
        help="A release; a classifier of clicks from texts; or a text encoder fine-tuned on clicks."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def train_command(
    data: Data = None,
    from_topics: FromTopics = False,
    out: Out = None,
    epochs: Epochs = 6,
    seed: int = 0,
    until: Until = 1.0,
    device: Device = "auto",
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    task: Task = "recommend",
    text_encoder: TextEncoderName = None,
    lora: Lora = True,
    learning_rate: LearningRate = None,
    max_length: MaxLength = 96,
    batch_size: BatchSize = 16,
    max_examples: MaxExamples = 0,
) -> None:
    """Train a model, check it, measure it beside popularity and item-kNN, and write a release folder.

    Started again after a kill in the same way, it goes on after the last whole epoch. It ends early when it
    does not predict later interactions any better; the best epoch's weights stay.

    A dataset's ratings of 4 and more are the action "like", others "view"; topics bring their own actions.
    """
    if (data is None) == (not from_topics):
        raise SlatestreamError("train needs exactly one of --data FOLDER and --from-topics")
    console = Console(stderr=True)
    settings = load_settings(config, text_encoder=text_encoder)
    out = out or Path("build/releases/latest" if task == "recommend" else f"build/language/{task}")
    if task != "recommend":
        options = TextOptions(
            task=task, data=data, out=out, epochs=epochs, seed=seed, device=device, lora=lora,
            learning_rate=learning_rate, max_length=max_length, batch_size=batch_size,
            max_examples=max_examples,
        )  # fmt: skip
        train_text(options, settings)
        return
    try:
        trained = _train(settings, data, out, epochs, seed, until, device, console)
    except ValueError as error:
        raise SlatestreamError(f"train: {error}") from error
    _show(trained, out, console)


def _train(
    settings: Settings,
    data: Path | None,
    out: Path,
    epochs: int,
    seed: int,
    until: float,
    device: str,
    console: Console,
) -> "Trained":
    from model_core.config import ModelConfig, TrainConfig
    from model_core.corpus import make_corpus, rating_actions
    from model_core.datasets import load_recbole
    from model_core.text_encoder import TextEncoder
    from model_core.train import train_release

    weights = dict(settings.actions)
    with Progress(
        TextColumn("{task.description:<36}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(), console=console, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        reporter = _Reporter(progress)
        dataset: Dataset
        with reporter.stage("Reading"):
            if data is not None:
                dataset = load_recbole(data)
                actions = rating_actions(dataset.interactions)
            else:
                from streams.training_log import read_topics

                dataset, actions = read_topics(settings)
        with reporter.stage(f"Encoding {len(dataset.items)} texts"):
            encoder = TextEncoder(settings.text_encoder, device=device)
            corpus = make_corpus(dataset, actions, weights, encoder, ModelConfig())
        return train_release(
            corpus,
            weights,
            out,
            until=until,
            train=TrainConfig(epochs=epochs, seed=seed),
            device=device,
            report=reporter.report,
        )


class _Reporter:
    """Shows the stages of training as bars; where nobody watches a terminal, as one line each."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def report(self, stage: str, done: float) -> None:
        if stage not in self._bars:
            name = STAGES.get(stage, stage)
            self._bars[stage] = self._progress.add_task(name, total=1.0)
            if not self._progress.console.is_terminal:
                self._progress.console.print(f"{name} ...", highlight=False)
        self._progress.update(self._bars[stage], completed=done)

    def stage(self, name: str) -> "_Stage":
        return _Stage(self, name)


class _Stage:
    def __init__(self, reporter: _Reporter, name: str) -> None:
        self._reporter, self._name = reporter, name

    def __enter__(self) -> None:
        self._reporter.report(self._name, 0.0)

    def __exit__(self, *_: object) -> None:
        self._reporter.report(self._name, 1.0)


def _show(trained: "Trained", out: Path, console: Console) -> None:
    release = trained.release
    metrics: Mapping[str, Any] = release.metrics
    users = int(metrics["slatestream"]["users"])
    table = Table(title=f"Held out: {users} users, all items ranked, items already met left out")
    table.add_column("model")
    table.add_column("Recall@10", justify="right")
    table.add_column("NDCG@10", justify="right")
    for name in MODELS:
        row = metrics[name]
        style = "bold" if name == "slatestream" else ""
        table.add_row(name, f"{row['recall@10']:.4f}", f"{row['ndcg@10']:.4f}", style=style)
    console.print(table)
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in trained.seconds.items())
    console.print(f"Release {release.version} in {out} ({spent}), pictures beside it.")
