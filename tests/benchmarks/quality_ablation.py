"""What each part of the served model adds: ML-100K in time order, one release per variant.

    python -m tests.benchmarks.quality_ablation --sidedata ../shared/data/movies-sidedata

Every variant is trained on the first 20 % of the events; then, in time order, ten items that the user has not
met are recommended before each positive event, and the event is learned as a worker learns it (history,
co-visits and popularity; the networks stay). A variant is compared with the whole model on the same events,
with a bootstrap over users; so are the signals that every score is given, without any network
(`signals_alone`). With side data items have OMDb's plots, posters and named edges besides
MovieLens' titles, genres and Freebase's edges; without, the latter only.
"""

import gzip
import json
import platform
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from model_core.data.datasets import Dataset, Item
from model_core.data.vocabulary import Edges
from model_core.inputs.corpus import Corpus, make_corpus, rating_actions
from model_core.network.config import ModelConfig
from model_core.release.scorer import Scorer
from model_core.training.recipe import Recipe
from model_core.training.train import train_release
from streams.items.text_encoder import named_encoder
from streams.settings import Settings
from tests.benchmarks.inputs import DataFolder, faults_told, read_data
from tests.benchmarks.prequential_offline import WARM_UP, hits
from tests.benchmarks.signals_alone import prequential

RESAMPLES = 2000


@dataclass(frozen=True)
class Variant:
    """What is taken away or chosen otherwise."""

    corpus: Callable[[Corpus], Corpus] = lambda corpus: corpus
    recipe: Callable[[Recipe], Recipe] = lambda recipe: recipe


def _blank(*names: str) -> Callable[[Corpus], Corpus]:
    def blank(corpus: Corpus) -> Corpus:
        changes = {name: np.zeros_like(getattr(corpus, name)) for name in names}
        return replace(corpus, **changes)

    return blank


def _no_edges(corpus: Corpus) -> Corpus:
    edges = corpus.edges
    none = np.zeros_like(edges.entities)
    return replace(corpus, edges=Edges(none, none, none > 0))


def _only_ids(corpus: Corpus) -> Corpus:
    return _no_edges(_blank("text", "image", "audio")(corpus))


def _train(**settings: object) -> Callable[[Recipe], Recipe]:
    return lambda recipe: recipe.changed(train=settings)


def _model(**settings: object) -> Callable[[Recipe], Recipe]:
    return lambda recipe: recipe.changed(model=settings)


VARIANTS = {
    "whole": Variant(),
    "no text": Variant(_blank("text")),
    "no image": Variant(_blank("image")),
    "no graph": Variant(_no_edges),
    "ids only": Variant(_only_ids),
    "no user attributes": Variant(_blank("stated")),
    "no history": Variant(recipe=_model(history_length=1)),
    "no modality dropout": Variant(recipe=_train(modality_dropout=0.0)),
    "no newcomers": Variant(recipe=_train(newcomers=0.0)),
    "no strangers": Variant(recipe=_train(new_users=0.0)),
    "larger steps": Variant(recipe=_train(batch_windows=32, learning_rate=3e-3)),
    "concat": Variant(recipe=_model(fusion="concat")),
    "gated": Variant(recipe=_model(fusion="gated")),
    "deep": Variant(recipe=_model(fusion="deep")),
    "joint": Variant(recipe=_model(fusion="joint")),
    "distmult start": Variant(recipe=_train(graph_embedding="distmult")),
    "rotate start": Variant(recipe=_train(graph_embedding="rotate")),
}


def with_side_data(dataset: Dataset, folder: Path) -> Dataset:
    """Add plots, posters and named edges to ML-100K's items."""
    with (folder / "links_ml100k.csv").open(encoding="utf-8") as file:
        header = next(file).rstrip("\n").split(",")
        links = [dict(zip(header, line.rstrip("\n").split(","), strict=True)) for line in file]
    imdb = {link["item_id"]: link["imdb"] for link in links}
    movie = {link["item_id"]: link["ml_latest_movieId"] for link in links}
    with gzip.open(folder / "omdb_movies.jsonl.gz", "rt", encoding="utf-8") as file:
        plots = {row["imdb"]: row.get("Plot") for row in map(json.loads, file)}
    edges: dict[str, list[tuple[str, str]]] = defaultdict(list)
    with gzip.open(folder / "kg_omdb.tsv.gz", "rt", encoding="utf-8") as file:
        for line in file:
            head, relation, tail = line.rstrip("\n").split("\t")
            edges[head].append((relation, tail))
    lines = (folder / "poster_movieIds.csv").read_text(encoding="utf-8").split()[1:]
    vectors = np.load(folder / "poster_efflite0_fp16.npy", allow_pickle=False).astype(np.float32)
    posters = dict(zip((line.split(",")[1] for line in lines), vectors, strict=True))

    def described(item: Item) -> Item:
        key = imdb.get(item.item_id, "")
        plot = plots.get(key)
        named = [edge for edge in edges[key] if edge[0] != "genre"]
        return replace(
            item,
            text=plot if plot and plot != "N/A" else None,
            triples=named[:16] + item.triples,
            image=posters.get(movie.get(item.item_id, "")),
        )

    return replace(dataset, items=[described(item) for item in dataset.items])


def main(
    data: DataFolder = None,
    sidedata: Annotated[Path | None, typer.Option(help="Folder movies-sidedata.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Only these, beside the whole model.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 1,
    every: Annotated[int, typer.Option(min=1, help="Ask before every n-th positive event.")] = 4,
    epochs: Annotated[int, typer.Option(min=1)] = 6,
) -> None:
    """Train and measure the variants."""
    names = ["whole", *(name for name in variant or VARIANTS if name != "whole")]
    if unknown := set(names) - set(VARIANTS):
        raise typer.BadParameter(f"variants are {list(VARIANTS)}, got {sorted(unknown)}")
    console = Console()
    dataset = read_data(data)
    if sidedata is not None:
        if not sidedata.is_dir():
            raise typer.BadParameter(f"there is no folder {sidedata}")
        dataset = with_side_data(dataset, sidedata)
    settings = Settings()
    encoder = named_encoder(settings.text_encoder)
    config = ModelConfig()
    corpus = make_corpus(
        dataset, rating_actions(dataset.interactions), settings.actions, encoder, config.n_neighbours
    )
    console.print(
        f"{platform.machine()}, torch {torch.__version__}; {len(corpus.log)} events, "
        f"{corpus.log.n_items} items, {int(corpus.image.any(1).sum())} with a poster, "
        f"{int(corpus.edges.mask.sum())} edges; "
        f"trained on {WARM_UP:.0%}, asked before every {every}. positive event, seeds 0..{seeds - 1}"
    )
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for seed in range(seeds):
        for name in names:
            if name == "no image" and not corpus.image.shape[1]:
                continue
            hit, users = _measure(VARIANTS[name], corpus, dict(settings.actions), seed, every, epochs)
            found[name].append(hit)
            console.print(f"seed {seed} {name}: hit@10 {hit.mean():.4f}")
    chosen, hit = prequential(corpus, Recipe().signals, int(WARM_UP * len(corpus.log)), every=every)
    console.print(f"signals alone, weights of co-visits, popularity, EASE {', '.join(map(str, chosen))}")
    found["signals alone"].append(hit)
    _show(console, found, users)


def _measure(
    variant: Variant, corpus: Corpus, weights: dict[str, float], seed: int, every: int, epochs: int
) -> tuple[np.ndarray, np.ndarray]:
    corpus = variant.corpus(corpus)
    recipe = variant.recipe(Recipe().changed(train={"seed": seed, "epochs": epochs}))
    folder = Path(tempfile.mkdtemp()) / "release"
    try:
        train_release(
            corpus, weights, folder, until=WARM_UP, config=recipe.model, train=recipe.train,
            signals=recipe.signals,
        )  # fmt: skip
        return hits(Scorer(folder), corpus, every=every)
    finally:
        shutil.rmtree(folder.parent)


def _show(console: Console, found: dict[str, list[np.ndarray]], users: np.ndarray) -> None:
    """Print each variant's mean and its difference from the whole model, with 95 % intervals over users."""
    table = Table(title=f"Prequential hit@10, {len(users)} events of {len(np.unique(users))} users")
    for column in ("variant", "hit@10", "against the whole model", "95 % interval"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    whole = np.mean(found["whole"], axis=0)
    _, of_user = np.unique(users, return_inverse=True)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(of_user.max() + 1, np.full(of_user.max() + 1, 1 / (of_user.max() + 1)), RESAMPLES)
    counts = np.bincount(of_user)
    for name, hit in found.items():
        mean = np.mean(hit, axis=0)
        difference = np.bincount(of_user, mean - whole)
        resampled = (draws @ difference) / (draws @ counts)
        low, high = np.quantile(resampled, (0.025, 0.975))
        delta = (mean - whole).mean()
        table.add_row(name, f"{mean.mean():.4f}", f"{delta:+.4f}", f"{low:+.4f} .. {high:+.4f}")
    console.print(table)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
