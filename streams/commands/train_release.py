"""`slatestream train --task recommend`: a release from a dataset or from the topics."""

import json
import os
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from streams.commands.dataset import HowRead, check_there, read_data
from streams.commands.option_checks import check_release_folder
from streams.commands.stages import Stages, show_stages
from streams.commands.train_text import METRICS as TEXT_METRICS
from streams.commands.training_curves import curves
from streams.commands.training_result import show, surely_better
from streams.errors import SlatestreamError
from streams.items.reading import signals_asked
from streams.settings import Settings

if TYPE_CHECKING:
    from model_core.inputs.corpus import Corpus
    from model_core.release.text_encoder import TextEncoder
    from model_core.training.fit import Watch
    from model_core.training.recipe import Recipe
    from model_core.training.together import Together
    from model_core.training.train import Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseOptions:
    """Options of a release's training; None = as the recipe says.

    data : a dataset; None = the topics
    base : release to go on from
    """

    data: Path | None
    how: HowRead
    out: Path
    recipe: Path | None
    epochs: int | None
    seed: int | None
    until: float
    robust: float | None
    ensemble: int | None
    base: Path | None
    epsilon: float | None
    delta: float | None
    device: str
    tensorboard: Path | None
    wandb: Path | None

    def of_networks(self) -> list[str]:
        """Options given that only the training of networks on a share of the log has a use for."""
        given = {
            "--until": self.until != 1.0, "--tensorboard": self.tensorboard, "--wandb": self.wandb,
            "--robust": self.robust is not None, "--ensemble": self.ensemble is not None, "--from": self.base,
        }  # fmt: skip
        return [option for option, value in given.items() if value]

    def given(self) -> list[str]:
        """Options given that other tasks have no use for."""
        privacy = {"--epsilon": self.epsilon, "--delta": self.delta}
        return self.of_networks() + [option for option, value in privacy.items() if value is not None]


def train_recommender(options: ReleaseOptions, settings: Settings, *, as_json: bool) -> None:
    """Train, check and measure a release, write its folder, and print what came of it.

    Several processes may train one together; the first of them writes and prints.

    Raises
    ------
    SlatestreamError
        If the data, the recipe, the encoder or an option will not do; the message says what to do.
    """
    check_release_folder(options.out)
    if not 0.0 < options.until <= 1.0:
        raise SlatestreamError(f"--until must be above 0 and at most 1, got {options.until:g}")
    console = Console(stderr=True)
    try:
        recipe = make_recipe(
            options.recipe, options.epochs, options.seed, base=options.base, robust=options.robust,
            ensemble=options.ensemble, epsilon=options.epsilon, delta=options.delta,
        )  # fmt: skip
        if recipe.privacy.promised:
            check_private(settings, options.of_networks())
        from model_core.training.together import joined

        with joined(options.device) as together:
            console.quiet = not together.leads
            logs = (options.tensorboard, options.wandb) if together.leads else (None, None)
            with curves(*logs, {"until": options.until} | asdict(recipe)) as watch:
                trained = _train(options, settings, recipe, watch, console, together)
    except ValueError as error:
        raise SlatestreamError(f"train: {error}") from error
    if trained is None:
        return
    show(trained, options.out, console)
    if as_json:
        release = trained.release
        about = {"release": release.version, "seconds": trained.seconds, "metrics": dict(release.metrics)}
        better = [] if recipe.privacy.promised else surely_better(release.metrics)
        print(json.dumps({"folder": str(options.out), **about, "better": better}))


def _train(
    options: ReleaseOptions,
    settings: Settings,
    recipe: "Recipe",
    watch: "Watch",
    console: Console,
    together: "Together",
) -> "Trained | None":
    """Train what the recipe says; None in a process that only helps."""
    from model_core.language.export_text import check_encoder
    from model_core.training.private import train_private
    from model_core.training.train import help_training, train_release
    from model_core.training.warm_start import read_start

    check_there(options.data)
    start = None if options.base is None else read_start(options.base)
    if options.base is not None and start is None:
        raise ValueError(
            "--from must name a release with the weights of its training, and with the layers that this "
            f"version has, got {str(options.base)!r}"
        )
    with show_stages(console) as stages:
        encoder = load_encoder(settings, stages)
        corpus = read_corpus(settings, recipe, options.data, options.how, encoder, stages, console)
        if start is not None:
            start.check_new(corpus)
        with stages.stage("Checking the text encoder"):
            check_encoder(encoder)
        if not together.leads:
            if not recipe.privacy.promised:  # else there is no network
                help_training(
                    corpus, settings.actions, options.out, together, until=options.until, config=recipe.model,
                    train=recipe.train, signals=signals_asked(recipe.signals, settings), start=start,
                    device=options.device,
                )  # fmt: skip
            return None
        if recipe.privacy.promised:
            return train_private(
                corpus, settings.actions, options.out, recipe.privacy, config=recipe.model,
                signals=signals_asked(recipe.signals, settings), text_encoder=encoder, report=stages.report,
            )  # fmt: skip
        return train_release(
            corpus,
            settings.actions,
            options.out,
            until=options.until,
            config=recipe.model,
            train=recipe.train,
            signals=signals_asked(recipe.signals, settings),
            text_encoder=encoder,
            start=start,
            said={} if start is None else {"parent": start.version},
            device=options.device,
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
    if (Path(settings.text_encoder) / TEXT_METRICS).is_file():
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
