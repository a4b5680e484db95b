"""`slatestream tune`: a recipe for a dataset, found by trying."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from streams.commands.dataset import Data, HowRead, LikeFrom, Map, Strict, check_there
from streams.commands.option_checks import check_device
from streams.commands.stages import show_stages
from streams.commands.train import AsJson, Device, FromTopics, RecipeFile, Seed
from streams.commands.train_release import load_encoder, make_recipe, read_corpus
from streams.errors import SlatestreamError
from streams.settings import load_settings

if TYPE_CHECKING:
    from model_core.training.recipe import Recipe
    from model_core.training.tune import Trial

SHOWN = 5


def tune_command(
    data: Data = None,
    from_topics: FromTopics = False,
    out: Annotated[Path, typer.Option(help="TOML file for the best recipe.")] = Path("build/recipe.toml"),
    trials: Annotated[int, typer.Option(min=1, help="Recipes to try, those of former runs included.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.0, help="Start no trial after this; 0 has no limit.")] = 0.0,
    train_until: Annotated[
        float, typer.Option(help="Train each trial on this first fraction by time, ...")
    ] = 0.7,
    until: Annotated[float, typer.Option(help="... and judge it by what follows until this one.")] = 0.8,
    recipe: RecipeFile = None,
    seed: Seed = None,
    device: Device = "auto",
    told: Map = None,
    like_from: LikeFrom = None,
    strict: Strict = False,
    as_json: AsJson = False,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
) -> None:
    """Search for the recipe that recommends best, with Optuna, and write it for `train --recipe`.

    A recipe is judged by NDCG@10 on the interactions after those that it was trained on. Leave the end of the
    data out of the search (--until), so that `train --until` at the same place tests what nothing has seen.

    The first trial is the recipe to start from, so the best is never worse than that. Trials are kept beside
    the recipe, in a .db file: started again, the search goes on.

    slatestream tune --data ml-100k --trials 20 --minutes 60
    """
    if (data is None) == (not from_topics):
        raise SlatestreamError("tune needs exactly one of --data FOLDER and --from-topics")
    if not 0.0 < train_until < until <= 1.0:
        raise SlatestreamError(f"0 < --train-until < --until <= 1 must hold, got {train_until} and {until}")
    check_device(device)
    from model_core.training.recipe import write_recipe
    from model_core.training.tune import METRIC, tune

    console = Console(stderr=True)
    settings = load_settings(config)
    tried: list[Trial] = []

    def note(trial: "Trial") -> None:
        tried.append(trial)
        value = trial.state if trial.value is None else f"{METRIC} {trial.value:.4f}"
        console.print(f"trial {trial.number + 1}: {value}", highlight=False)

    try:
        base = make_recipe(recipe, seed=seed)
        check_there(data)
        with show_stages(console) as stages:
            how = HowRead(told or (), like_from, strict)
            encoder = load_encoder(settings, stages)
            corpus = read_corpus(settings, base, data, how, encoder, stages, console)
            n = len(corpus.log)
            best = tune(
                corpus,
                tuple(settings.actions.values()),
                base,
                out.with_suffix(".db"),
                split=int(train_until * n),
                stop=int(until * n),
                trials=trials,
                seconds=minutes * 60 or None,
                device=device,
                report=stages.report,
                tried=note,
            )
    except ValueError as error:
        raise SlatestreamError(f"tune: {error}") from error
    write_recipe(out, best.recipe)
    _show(console, best, tried, base, out)
    same = f"--data {shlex.quote(str(data))}" if data is not None else "--from-topics"
    same += "" if config is None else f" --config {shlex.quote(str(config))}"
    console.print(f"Train with it: slatestream train --recipe {out} {same}", highlight=False, soft_wrap=True)
    if as_json:
        found = {"trial": best.number + 1, METRIC: best.value, "recipe": str(out), **asdict(best.recipe)}
        print(json.dumps(found))


def _show(console: Console, best: "Trial", tried: list["Trial"], base: "Recipe", out: Path) -> None:
    table = Table(title="Best recipes of this run")
    for column in ("trial", "NDCG@10", "differs from the start in"):
        table.add_column(column)
    start = asdict(base)
    ranked = sorted((t for t in tried if t.value is not None), key=lambda t: -(t.value or 0.0))
    for trial in ranked[:SHOWN]:
        changes = [
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for table_name, settings in asdict(trial.recipe).items()
            for name, value in settings.items()
            if value != start[table_name][name]
        ]
        table.add_row(str(trial.number + 1), f"{trial.value:.4f}", ", ".join(changes) or "nothing")
    console.print(table)
    console.print(f"Best of all: trial {best.number + 1}, NDCG@10 {best.value:.4f}, in {out}.")
