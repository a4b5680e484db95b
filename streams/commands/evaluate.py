"""`slatestream evaluate`: a release on what follows its split, beside the baselines it has to beat."""

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streams.commands.dataset import Data, HowRead, LikeFrom, Map, Strict, read_data
from streams.commands.option_checks import check_device
from streams.commands.stages import Stages, show_stages
from streams.errors import SlatestreamError
from streams.settings import Settings, load_settings

if TYPE_CHECKING:
    from model_core.evaluation.held_out import Evaluation, Slice
    from model_core.evaluation.topn import Estimate
    from model_core.release.folder import Release

OURS = "slatestream"
METRICS = {"recall": "Recall", "ndcg": "NDCG", "mrr": "MRR", "hit": "Hit"}

ReleaseFolder = Annotated[Path, typer.Argument(help="Folder of a release, as `train` writes it.")]
FromTopics = Annotated[bool, typer.Option("--from-topics", help="Read `clicks` and `content` instead.")]
Until = Annotated[
    float | None,
    typer.Option(
        help="Test on what follows this fraction of the interactions; by default on all that follows what "
        "the release was trained on. It cannot lie before."
    ),
]
K = Annotated[int, typer.Option("--k", min=1, help="Items in a list.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print all figures as JSON, tables on stderr.")]
ReportFile = Annotated[Path | None, typer.Option("--report", help="Write all figures into this JSON file.")]
Plots = Annotated[bool, typer.Option("--plots", help="Draw recall by popularity and by history beside it.")]


def evaluate_command(
    release: ReleaseFolder,
    data: Data = None,
    from_topics: FromTopics = False,
    until: Until = None,
    k: K = 10,
    as_json: AsJson = False,
    report: ReportFile = None,
    plots: Plots = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    draws: Annotated[int, typer.Option(min=100, help="Of the bootstrap.")] = 2000,
    device: Annotated[str, typer.Option(help="For the texts: auto, cpu or cuda.")] = "auto",
    told: Map = None,
    like_from: LikeFrom = None,
    strict: Strict = False,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
) -> None:
    """Measure a release on what came after its training, beside simple models.

    These are popularity, popularity that fades (at the half-life that is best just before the split),
    item-kNN, co-visits and EASE.

    Each user who responds to something later is asked once, at the moment of the split, for K items they have
    not met. All items compete, so the figures are low: Recall@10 of 0.1 means that a tenth of what users went
    on to like was among the ten.

    Recall, NDCG, MRR and Hit count users who had liked something before. Intervals (95 %) and p values come
    from drawing the users anew. The difference is to the best baseline in that metric: where its interval
    holds 0, the release is not shown to be better.

    Coverage is the share of the catalogue that somebody is shown, Gini how unequally items are shown (0 =
    alike), novelty how rare they are (bits), diversity how unlike the items of a list are (by genre where
    items have one, else by all attributes).

    slatestream train --data ml-100k --until 0.8 --out build/a

    slatestream evaluate build/a --data ml-100k --report build/a.json --plots
    """
    if (data is None) == (not from_topics):
        raise SlatestreamError("evaluate needs exactly one of --data FOLDER and --from-topics")
    if plots and report is None:
        raise SlatestreamError("--plots needs --report FILE: the pictures go beside it")
    check_device(device)
    console = Console(stderr=True)
    settings = load_settings(config)
    try:
        with show_stages(console) as stages:
            how = HowRead(told or (), like_from, strict)
            found, of = _evaluate(
                settings, release, data, how, until, k, seed, draws, device, stages, console
            )
    except (ValueError, OSError) as error:
        raise SlatestreamError(f"evaluate: {' '.join(str(error).split())}") from error
    show(found, of, Console(stderr=as_json))
    text = json.dumps(figures(found, of, seed, draws), indent=2)
    if as_json:
        print(text)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(text + "\n", encoding="utf-8")
        if plots:
            draw(found, report)


def _evaluate(
    settings: Settings,
    folder: Path,
    data: Path | None,
    how: HowRead,
    until: float | None,
    k: int,
    seed: int,
    draws: int,
    device: str,
    stages: Stages,
    console: Console,
) -> "tuple[Evaluation, Release]":
    import numpy as np

    from model_core.data.vocabulary import Vocabulary
    from model_core.evaluation.held_out import evaluate_release
    from model_core.evaluation.slices import attribute_features
    from model_core.inputs.corpus import make_corpus
    from model_core.release.scorer import Scorer
    from streams.items.text_encoder import release_encoder

    with stages.stage("Loading the release"):
        scorer = Scorer(folder)
        release = scorer.release
    with stages.stage("Reading"):
        if data is None:
            from streams.commands.training_log import read_topics

            dataset, actions = read_topics(settings)
        else:
            dataset, actions = read_data(data, settings, how, console)
    with stages.stage(f"Encoding {len(dataset.items)} texts"):
        encoder = release_encoder(folder, release, threads=os.cpu_count() or 1)
        corpus = make_corpus(
            dataset,
            actions,
            release.action_weights,
            encoder,
            release.n_neighbours,
            known=Vocabulary(release.item_rows, release.entity_rows, release.relation_rows),
        )
    attributes = {item.item_id: item.attributes for item in dataset.items}
    found = evaluate_release(
        scorer,
        corpus,
        until=until,
        k=k,
        features=attribute_features([attributes[name] for name in corpus.vocabulary.item_rows]),
        rng=np.random.default_rng(seed),
        draws=draws,
        report=lambda done: stages.report("evaluate", done),
    )
    return found, release


def show(found: "Evaluation", release: "Release", console: Console) -> None:
    """Print an evaluation as tables."""
    console.print(
        f"Release {release.version}: trained on {release.training['interactions']:,} interactions, tested on "
        f"{found.events - found.split:,} after the first {found.split:,}; lists of {found.k}, all "
        f"{found.items:,} items compete",
        highlight=False,
    )
    _accuracy(found, console)
    _beyond(found, console)
    _slices("Recall by popularity of the item, rarest first", "pairs", found.by_popularity, found.k, console)
    _slices("Recall by events of the user before the split", "users", found.by_history, found.k, console)
    new = found.new_items
    among = "nobody wants one later"
    if new.recall is not None:
        among = (
            f"among themselves recall@{found.k} {_interval(new.recall)} for the {new.users} users who want "
            f"one, by chance {new.chance:.4f}"
        )
    console.print(
        f"{new.items} items are first met after the split: {new.share:.2%} of what is listed; {among}.",
        highlight=False,
    )


def _accuracy(found: "Evaluation", console: Console) -> None:
    table = Table(title=f"{found.users} users with a positive event before the split; 95 % intervals")
    table.add_column("model", no_wrap=True)
    for name in METRICS.values():
        table.add_column(f"{name}@{found.k}", justify="right")
    for model, of in found.accuracy.items():
        cells = [_interval(of[metric]) for metric in METRICS]
        table.add_row(model, *cells, style="bold" if model == OURS else "", end_section=model == OURS)
    gains = [found.difference[metric] for metric in METRICS]
    table.add_row("above the best baseline", *(_interval(one.gain, sign="+") for one in gains))
    table.add_row("which is", *(f"{one.baseline}, p {one.gain.p_value:.2g}" for one in gains))
    console.print(table)


def _beyond(found: "Evaluation", console: Console) -> None:
    table = Table(title="Beyond accuracy")
    table.add_column("model")
    names = list(found.beyond[OURS])
    for name in names:
        table.add_column(name, justify="right")
    for model, of in found.beyond.items():
        cells = [f"{of[name]:.4f}" for name in names]
        table.add_row(model, *cells, style="bold" if model == OURS else "")
    console.print(table)


def _slices(title: str, unit: str, slices: "list[Slice]", k: int, console: Console) -> None:
    table = Table(title=f"{title} (Recall@{k})")
    table.add_column("model", no_wrap=True)
    for one in slices:
        table.add_column(f"{one.label}\n{one.size:,} {unit}", justify="right")
    for model in slices[0].recall:
        found = [one.recall[model] for one in slices]
        cells = [_interval(one) if model == OURS else f"{one.mean:.4f}" for one in found]
        table.add_row(model, *cells, style="bold" if model == OURS else "")
    console.print(table)


def _interval(value: "Estimate", sign: str = "") -> str:
    if not math.isfinite(value.low):
        return f"{value.mean:{sign}.4f}"
    return f"{value.mean:{sign}.4f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"


def figures(found: "Evaluation", release: "Release", seed: int, draws: int) -> dict[str, Any]:
    """All figures and how they were got; bounds that a single user leaves open are null."""

    def closed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: closed(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [closed(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    how = {"release": release.version, "bootstrap": {"seed": seed, "draws": draws, "level": 0.95}}
    whole: dict[str, Any] = closed(how | asdict(found))
    return whole


def draw(found: "Evaluation", report: Path) -> None:
    """Draw recall by popularity and by history as PNG beside the JSON file, named after it."""
    from model_core.training.plots import plot_slices

    for name, slices, label in (
        ("popularity", found.by_popularity, "popularity of the item before the split, rarest first"),
        ("history", found.by_history, "events of the user before the split"),
    ):
        plot_slices(
            report.with_name(f"{report.stem}-recall-by-{name}.png"),
            [f"{one.label}\n{one.size} wanted" if name == "popularity" else f"{one.label}\n{one.size} users"
             for one in slices],
            {model: [one.recall[model] for one in slices] for model in found.accuracy},
            label=label,
            title=f"Recall@{found.k}, 95 % intervals",
        )  # fmt: skip
