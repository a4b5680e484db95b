"""`slatestream train`: a release from a dataset or from the topics."""

import json
import os
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from streams.commands.dataset import Data, HowRead, LikeFrom, Map, Strict, check_there, read_data
from streams.commands.option_checks import check_device, check_release_folder
from streams.commands.stages import Stages, show_stages
from streams.commands.train_policy import (
    Algorithm,
    FeedbackFile,
    HeldOut,
    PolicyOptions,
    SessionGap,
    train_policy,
)
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
from streams.commands.training_curves import curves
from streams.commands.training_result import show, surely_better
from streams.errors import SlatestreamError
from streams.settings import Settings, load_settings

if TYPE_CHECKING:
    from model_core.inputs.corpus import Corpus
    from model_core.release.text_encoder import TextEncoder
    from model_core.training.fit import Watch
    from model_core.training.recipe import Recipe
    from model_core.training.together import Together
    from model_core.training.train import Trained

METRICS = "metrics.json"
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
    how = HowRead(told or (), like_from, strict)
    source, name = (feedback, "--feedback FILE") if task == "policy" else (data, "--data FOLDER")
    if (source is None) == (not from_topics):
        raise SlatestreamError(f"train needs exactly one of {name} and --from-topics")
    console = Console(stderr=True)
    settings = load_settings(config, text_encoder=text_encoder)
    folders = {"recommend": "build/releases/latest", "policy": "build/policies/latest"}
    out = out or Path(folders.get(task, f"build/language/{task}"))
    check_device(device)
    if task != "recommend":
        if how != HowRead():
            raise SlatestreamError(f"--map, --like-from and --strict are for --task recommend, not {task}")
        given = {
            "--until": until != 1.0, "--tensorboard": tensorboard, "--wandb": wandb,
            "--robust": robust is not None, "--ensemble": ensemble is not None,
            "--from": base, "--epsilon": epsilon is not None, "--delta": delta is not None,
        }  # fmt: skip
        for option in (name for name, value in given.items() if value):
            raise SlatestreamError(f"{option} is for --task recommend, got it with --task {task}")
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise SlatestreamError(f"--task {task} trains in one process: start it without torchrun")
        if task == "policy":
            learning = PolicyOptions(
                file=feedback, out=out, algorithm=algorithm, epochs=epochs or 20, seed=seed or 0,
                device=device, gap_minutes=session_gap, held_out=held_out,
            )  # fmt: skip
            train_policy(learning, settings)
            _print_metrics(out, as_json)
            return
        options = TextOptions(
            task=task, data=data, out=out, epochs=epochs or 6, seed=seed or 0, device=device, lora=lora,
            learning_rate=learning_rate, max_length=max_length, batch_size=batch_size,
            max_examples=max_examples,
        )  # fmt: skip
        train_text(options, settings)
        _print_metrics(out, as_json)
        return
    check_release_folder(out)
    if not 0.0 < until <= 1.0:
        raise SlatestreamError(f"--until must be above 0 and at most 1, got {until:g}")
    try:
        made = make_recipe(
            recipe, epochs, seed, base=base, robust=robust, ensemble=ensemble, epsilon=epsilon, delta=delta
        )
        if made.privacy.promised:
            curved = {
                "--until": until != 1.0, "--tensorboard": tensorboard, "--wandb": wandb,
                "--robust": robust is not None, "--ensemble": ensemble is not None, "--from": base,
            }  # fmt: skip
            check_private(settings, [name for name, given in curved.items() if given])
        from model_core.training.together import joined

        with joined(device) as together:
            if not together.leads:
                console.quiet, tensorboard, wandb = True, None, None
            with curves(tensorboard, wandb, {"until": until} | asdict(made)) as watch:
                trained = _train(
                    settings, made, data, how, out, until, device, watch, console, base, together
                )
    except ValueError as error:
        raise SlatestreamError(f"train: {error}") from error
    if trained is None:
        return
    show(trained, out, console)
    if as_json:
        release = trained.release
        about = {"release": release.version, "seconds": trained.seconds, "metrics": dict(release.metrics)}
        better = [] if made.privacy.promised else surely_better(release.metrics)
        print(json.dumps({"folder": str(out), **about, "better": better}))


def _print_metrics(out: Path, as_json: bool) -> None:
    """Print what a training that makes no release has written down."""
    if as_json:
        metrics = json.loads((out / METRICS).read_text(encoding="utf-8"))
        print(json.dumps({"folder": str(out), "metrics": metrics}))


def _train(
    settings: Settings,
    recipe: "Recipe",
    data: Path | None,
    how: HowRead,
    out: Path,
    until: float,
    device: str,
    watch: "Watch",
    console: Console,
    base: Path | None,
    together: "Together",
) -> "Trained | None":
    from model_core.language.export_text import check_encoder
    from model_core.training.private import train_private
    from model_core.training.train import help_training, train_release
    from model_core.training.warm_start import read_start

    check_there(data)
    start = None if base is None else read_start(base)
    if base is not None and start is None:
        raise ValueError(
            "--from must name a release with the weights of its training, and with the layers that this "
            f"version has, got {str(base)!r}"
        )
    with show_stages(console) as stages:
        encoder = load_encoder(settings, stages)
        corpus = read_corpus(settings, recipe, data, how, encoder, stages, console)
        if start is not None:
            start.check_new(corpus)
        with stages.stage("Checking the text encoder"):
            check_encoder(encoder)
        if not together.leads:
            if not recipe.privacy.promised:  # else there is no network
                help_training(
                    corpus, settings.actions, out, together, until=until, config=recipe.model,
                    train=recipe.train, signals=recipe.signals, start=start, device=device,
                )  # fmt: skip
            return None
        if recipe.privacy.promised:
            return train_private(
                corpus, settings.actions, out, recipe.privacy, config=recipe.model, signals=recipe.signals,
                text_encoder=encoder, report=stages.report,
            )  # fmt: skip
        return train_release(
            corpus,
            settings.actions,
            out,
            until=until,
            config=recipe.model,
            train=recipe.train,
            signals=recipe.signals,
            text_encoder=encoder,
            start=start,
            said={} if start is None else {"parent": start.version},
            device=device,
            report=stages.report,
            watch=watch,
            together=together,
        )


def load_encoder(settings: Settings, stages: Stages) -> "TextEncoder":
    """Load the configured text encoder.

    Raises
    ------
    ValueError
        If there is no such encoder.
    """
    from streams.items.text_encoder import named_encoder

    with stages.stage("Loading the text encoder"):
        return named_encoder(settings.text_encoder, threads=os.cpu_count() or 1)


def read_corpus(
    settings: Settings,
    recipe: "Recipe",
    data: Path | None,
    how: HowRead,
    encoder: "TextEncoder",
    stages: Stages,
    console: Console,
) -> "Corpus":
    """Read a dataset, or the topics without one, and encode its texts.

    Raises
    ------
    ValueError
        If it cannot be read or holds too little.
    """
    from model_core.inputs.corpus import make_corpus

    with stages.stage("Reading"):
        if data is not None:
            dataset, actions = read_data(data, settings, how, console)
        else:
            from streams.commands.training_log import read_topics

            dataset, actions = read_topics(settings)
        if recipe.privacy.promised:
            from model_core.training.private import public_part

            dataset, actions = public_part(dataset, list(actions))
    name = f"Encoding {len(dataset.items)} texts"
    with stages.stage(name):
        return make_corpus(
            dataset,
            actions,
            settings.actions,
            encoder,
            recipe.model.n_neighbours,
            progress=partial(stages.report, name),
        )


def check_private(settings: Settings, given: list[str]) -> None:
    """Refuse what a private release cannot be made with.

    Parameters
    ----------
    given : options that a private release has no use for

    Raises
    ------
    ValueError
        If there are any, or the text encoder was fine-tuned on clicks.
    """
    for option in given:
        raise ValueError(
            f"{option} must not be given with epsilon: a share of the log ends where all users together "
            "have it end, and no network is trained"
        )
    if (Path(settings.text_encoder) / METRICS).is_file():
        raise ValueError(
            "text_encoder must not be fine-tuned on clicks where epsilon is set, "
            f"got {settings.text_encoder!r}"
        )


def make_recipe(
    path: Path | None,
    epochs: int | None = None,
    seed: int | None = None,
    *,
    base: Path | None = None,
    robust: float | None = None,
    ensemble: int | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
) -> "Recipe":
    """Read a recipe, or take the default one, and override what the command line says.

    Parameters
    ----------
    base : release to go on from, whose sizes of networks count
    """
    from model_core.release.folder import read_config
    from model_core.training.recipe import Recipe, read_recipe

    recipe = Recipe() if path is None else read_recipe(path)
    if base is not None:
        recipe = replace(recipe, model=read_config(base))
    tables: dict[str, dict[str, Any]] = {
        "model": {"ensemble": ensemble},
        "train": {"epochs": epochs, "seed": seed, "adversarial": robust},
        "privacy": {"epsilon": epsilon, "delta": delta},
    }
    return recipe.changed(
        **{
            name: {key: value for key, value in given.items() if value is not None}
            for name, given in tables.items()
        }
    )
