"""`slatestream train`: a release, a text model or a policy, from files or from the topics."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from streams.commands.dataset import Data, HowRead, LikeFrom, Map, Strict
from streams.commands.option_checks import check_device
from streams.commands.train_policy import (
    Algorithm,
    FeedbackFile,
    HeldOut,
    PolicyOptions,
    SessionGap,
    train_policy,
)
from streams.commands.train_release import ReleaseOptions, train_recommender
from streams.commands.train_text import (
    BatchSize,
    LearningRate,
    Lora,
    MaxExamples,
    MaxLength,
    TextEncoderName,
    TextOptions,
    train_text,
)
from streams.errors import SlatestreamError
from streams.settings import load_settings

METRICS = "metrics.json"
FOLDERS = {
    "recommend": "build/releases/latest",
    "policy": "build/policies/latest",
    "ctr-text": "build/language/ctr-text",
    "text-encoder": "build/language/text-encoder",
}
FromTopics = Annotated[bool, typer.Option("--from-topics", help="Train on `clicks` and `content` instead.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the result, replaced when it exists; build/releases/latest for a release."),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        help="TOML file with how the model is made: tables model, train, signals, privacy. See `tune`."
    ),
]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Passes over the interactions; overrides the recipe.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Overrides the recipe's.")]
Robust = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Train also under the worst change of items' vectors of this relative size, e.g. 0.01. Takes "
        "half as long again; overrides the recipe's `adversarial`.",
    ),
]
Members = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Networks that are trained apart and served as one, e.g. 3, which takes so many times as long. "
        "Overrides the recipe's `ensemble`.",
    ),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Release folder to go on from, of this catalogue or of another one, with its sizes of networks.",
    ),
]
Until = Annotated[float, typer.Option(help="Train on this first fraction by time; test on the rest.")]
Epsilon = Annotated[
    float | None,
    typer.Option(help="Differential privacy of users: EASE of noisy counts, and no network. See trust.md."),
]
Delta = Annotated[float | None, typer.Option(help="Of --epsilon: 1e-5 unless the recipe says otherwise.")]
Task = Annotated[
    Literal["recommend", "ctr-text", "text-encoder", "policy"],
    typer.Option(
        help="A release; a classifier of clicks from texts; a text encoder fine-tuned on clicks; or a policy "
        "learned from feedback."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print what came of it as a line of JSON, on stdout."),
]


def train_command(
    data: Data = None,
    from_topics: FromTopics = False,
    out: Out = None,
    recipe: RecipeFile = None,
    epochs: Epochs = None,
    seed: Seed = None,
    until: Until = 1.0,
    robust: Robust = None,
    ensemble: Members = None,
    base: From = None,
    epsilon: Epsilon = None,
    delta: Delta = None,
    device: Device = "auto",
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard's curves.")] = None,
    wandb: Annotated[
        Path | None,
        typer.Option(help="Folder for an offline run of Weights & Biases, which `wandb sync` uploads."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    task: Task = "recommend",
    text_encoder: TextEncoderName = None,
    lora: Lora = True,
    learning_rate: LearningRate = None,
    max_length: MaxLength = 96,
    batch_size: BatchSize = 16,
    max_examples: MaxExamples = 0,
    feedback: FeedbackFile = None,
    algorithm: Algorithm = "reinforce",
    session_gap: SessionGap = 30.0,
    held_out: HeldOut = 0.2,
    told: Map = None,
    like_from: LikeFrom = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Train a model, check it, measure it beside simple models, and write a release folder.

    Started again after a kill in the same way, it goes on after the last whole epoch. It ends early when it
    does not predict later interactions any better; the best epoch's weights stay.

    What was understood of a dataset is printed before anything is learned. Ratings of four fifths of their
    scale and more are the action "like", others "view"; topics bring their own actions.

    slatestream train --data ratings.csv --out build/release

    slatestream train --from-topics --recipe recipe.toml

    slatestream train --data few.csv --from build/release --out build/adapted

    Several processes train a release together where `torchrun` starts them, which then is quicker:

    torchrun --standalone --nproc-per-node 2 -m streams.cli train --data ratings.csv
    """
    source, name = (feedback, "--feedback FILE") if task == "policy" else (data, "--data FOLDER")
    if (source is None) == (not from_topics):
        raise SlatestreamError(f"train needs exactly one of {name} and --from-topics")
    settings = load_settings(config, text_encoder=text_encoder)
    out = out or Path(FOLDERS[task])
    check_device(device)
    release = ReleaseOptions(
        data=data, how=HowRead(told or (), like_from, strict), out=out, recipe=recipe, epochs=epochs,
        seed=seed, until=until, robust=robust, ensemble=ensemble, base=base, epsilon=epsilon, delta=delta,
        device=device, tensorboard=tensorboard, wandb=wandb,
    )  # fmt: skip
    if task == "recommend":
        train_recommender(release, settings, as_json=as_json)
        return
    _check_task(task, release)
    if task == "policy":
        learning = PolicyOptions(
            file=feedback, out=out, algorithm=algorithm, epochs=epochs or 20, seed=seed or 0,
            device=device, gap_minutes=session_gap, held_out=held_out,
        )  # fmt: skip
        train_policy(learning, settings)
    else:
        options = TextOptions(
            task=task, data=data, out=out, epochs=epochs or 6, seed=seed or 0, device=device, lora=lora,
            learning_rate=learning_rate, max_length=max_length, batch_size=batch_size,
            max_examples=max_examples,
        )  # fmt: skip
        train_text(options, settings)
    if as_json:
        metrics = json.loads((out / METRICS).read_text(encoding="utf-8"))
        print(json.dumps({"folder": str(out), "metrics": metrics}))


def _check_task(task: str, options: ReleaseOptions) -> None:
    """Refuse options of a release's training where another task is asked for."""
    if options.how != HowRead():
        raise SlatestreamError(f"--map, --like-from and --strict are for --task recommend, not {task}")
    for option in options.given():
        raise SlatestreamError(f"{option} is for --task recommend, got it with --task {task}")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise SlatestreamError(f"--task {task} trains in one process: start it without torchrun")
