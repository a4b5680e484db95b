"""`slatestream train --task ctr-text` and `--task text-encoder`: language models trained on clicks."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streams.errors import SlatestreamError
from streams.settings import Settings

if TYPE_CHECKING:
    from model_core.language.ctr_text import CtrResult
    from model_core.language.fine_tune import FineTuned
    from model_core.language.loop import LoopConfig, Row
    from model_core.language.text_pairs import TextLog

RATES = {True: 2e-4, False: 2e-5}
"""Learning rate with and without low-rank adapters, where none is given."""

_PANEL = "Tasks ctr-text and text-encoder"
Lora = Annotated[
    bool,
    typer.Option("--lora/--full", help="Low-rank adapters, or every weight.", rich_help_panel=_PANEL),
]
LearningRate = Annotated[
    float | None,
    typer.Option(help="At its peak; 2e-4 with adapters, 2e-5 without.", rich_help_panel=_PANEL),
]
MaxLength = Annotated[int, typer.Option(min=4, help="Tokens of a text or pair.", rich_help_panel=_PANEL)]
BatchSize = Annotated[int, typer.Option(min=1, help="Examples of a step.", rich_help_panel=_PANEL)]
MaxExamples = Annotated[
    int,
    typer.Option(
        min=0,
        help="Per epoch, drawn anew each, and at most measured; 0 takes all (and measures 4,000).",
        rich_help_panel=_PANEL,
    ),
]
TextEncoderName = Annotated[
    str | None,
    typer.Option(help="'minilm', a folder or a Hugging Face name; overrides the setting text_encoder."),
]

HELD_OUT = 4000
"""Most held-out examples that are measured; fewer when fewer are trained on."""
METRICS, PICTURE, CURVES = "metrics.json", "learning-curve.png", "tensorboard"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """Options of a training on texts."""

    task: Literal["ctr-text", "text-encoder"]
    data: Path | None
    out: Path
    epochs: int
    seed: int
    device: str
    lora: bool
    learning_rate: float | None
    max_length: int
    batch_size: int
    max_examples: int


def train_text(options: TextOptions, settings: Settings) -> None:
    """Train, write the folder `out` with weights, metrics.json, a picture and TensorBoard's log, and print.

    Started again after a kill in the same way, it goes on after the last whole epoch.

    Raises
    ------
    SlatestreamError
        If the data, the encoder or an option will not do; the message says what to do.
    """
    try:
        log = _read(options, settings)
        if options.task == "ctr-text":
            _train_ctr(options, settings, log)
        else:
            _train_encoder(options, settings, log)
    except ValueError as error:
        raise SlatestreamError(f"train --task {options.task}: {error}") from error


def _read(options: TextOptions, settings: Settings) -> "TextLog":
    import numpy as np

    from model_core.data.datasets import load_recbole
    from model_core.language.text_pairs import make_log, read_labels

    if options.data is None:
        from streams.commands.training_log import read_topics

        dataset, actions = read_topics(settings)
        clicked = np.array([settings.actions[action] >= 1 for action in actions])
        return make_log(dataset, clicked, shown=False)
    dataset = load_recbole(options.data)
    labels = read_labels(options.data, len(dataset.interactions))
    ratings = dataset.interactions.ratings
    clicked = np.isnan(ratings) | (ratings >= 4) if labels is None else labels
    return make_log(dataset, clicked, shown=labels is not None)


def _loop(options: TextOptions) -> "LoopConfig":
    from model_core.language.loop import LoopConfig

    return LoopConfig(
        epochs=options.epochs,
        seed=options.seed,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate or RATES[options.lora],
    )


def _train_ctr(options: TextOptions, settings: Settings, log: "TextLog") -> None:
    import numpy as np

    from model_core.language.backbone import LoraSettings
    from model_core.language.ctr_text import CtrConfig, ctr_fingerprint, history_texts, train_ctr
    from model_core.language.curves import TensorBoard
    from model_core.language.export_text import export_classifier
    from model_core.language.text_pairs import make_pairs, split_by_time
    from model_core.training.checkpoint import Checkpoint

    config = CtrConfig(
        encoder=settings.text_encoder,
        max_tokens=options.max_length,
        lora=LoraSettings() if options.lora else None,
        max_examples=options.max_examples,
        max_validation=min(options.max_examples or HELD_OUT, HELD_OUT),
        loop=_loop(options),
    )
    rng = np.random.default_rng(options.seed)
    pairs = make_pairs(log, length=config.history, negatives=config.negatives, rng=rng)
    parts = split_by_time(pairs, 0.1, 0.1)
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(_checkpoint(options.out), ctr_fingerprint(log, config))
    with _Bar("Training") as bar, TensorBoard(options.out / CURVES) as curves:
        result = train_ctr(
            log, parts, config, device=options.device, checkpoint=checkpoint, report=bar, curves=curves
        )
    result.classifier.save(options.out)
    example = parts[1][:8]
    texts = [log.texts[item] for item in example.items.tolist()]
    difference = export_classifier(options.out, result.classifier, history_texts(log, example.history), texts)
    about = {
        "task": "ctr-text",
        "config": asdict(config),
        "examples": [len(part) for part in parts],
        "negatives": "impressions without a click" if log.shown else "drawn uniformly",
        "onnx_difference": difference,
        "test": result.test,
    }
    _write(options.out, result, about)
    checkpoint.delete()
    _show_ctr(result, options.out)


def _train_encoder(options: TextOptions, settings: Settings, log: "TextLog") -> None:
    from model_core.language.backbone import LoraSettings
    from model_core.language.curves import TensorBoard
    from model_core.language.fine_tune import (
        FineTuneConfig,
        fine_tune,
        fine_tune_fingerprint,
        next_likes,
        split_examples,
    )
    from model_core.training.checkpoint import Checkpoint

    config = FineTuneConfig(
        encoder=settings.text_encoder,
        max_tokens=options.max_length,
        lora=LoraSettings() if options.lora else None,
        max_examples=options.max_examples,
        max_validation=min(options.max_examples or HELD_OUT, HELD_OUT),
        loop=_loop(options),
    )
    parts = split_examples(next_likes(log, config.history))
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(_checkpoint(options.out), fine_tune_fingerprint(log, config))
    with _Bar("Training") as bar, TensorBoard(options.out / CURVES) as curves:
        result = fine_tune(
            log, parts, config, device=options.device, checkpoint=checkpoint, report=bar, curves=curves
        )
    result.save(options.out)
    about = {"task": "text-encoder", "config": asdict(config), "examples": [len(part) for part in parts]}
    _write(options.out, result, about)
    checkpoint.delete()
    console = Console(stderr=True)
    console.print(_table(result.history, result.best_epoch, "Next liked item, on later likes"))
    console.print(
        f"Encoder in {options.out}; serve it with SLATESTREAM_TEXT_ENCODER={options.out}", soft_wrap=True
    )


def _checkpoint(out: Path) -> Path:
    return out.with_name(out.name + ".checkpoint")


def _write(out: Path, result: "CtrResult | FineTuned", about: dict[str, Any]) -> None:
    from model_core.language.curves import plot_epochs

    metrics = about | {"epochs": result.history, "best_epoch": result.best_epoch + 1}
    (out / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    plot_epochs(out / PICTURE, result.history, result.best_epoch)


def _show_ctr(result: "CtrResult", out: Path) -> None:
    console = Console(stderr=True)
    console.print(_table(result.history, result.best_epoch, "Click from text, on later rows"))
    test = result.test
    console.print(
        f"Test, on the latest rows: AUC {test['auc']:.4f} (popularity alone {test['auc_popularity']:.4f}), "
        f"accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f}. Weights, ONNX and picture in {out}",
        soft_wrap=True,
    )


def _table(history: "list[Row]", kept: int, title: str) -> Table:
    table = Table(title=title)
    names = list(history[0])
    table.add_column("epoch", justify="right")
    for name in names:
        table.add_column(
            "training loss" if name == "loss" else name.replace("validation_", ""), justify="right"
        )
    for number, row in enumerate(history):
        values = [f"{row[name]:.4f}" for name in names]
        table.add_row(str(number + 1), *values, style="bold" if number == kept else "")
    return table


class _Bar:
    """A bar where somebody watches a terminal, else a line; called with the stage and the share done."""

    def __init__(self, name: str) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        if not console.is_terminal:
            console.print(f"{name} ...", highlight=False)
        self._task = self._progress.add_task(name, total=1.0)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: float) -> None:
        self._progress.update(self._task, completed=done)
