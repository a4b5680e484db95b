"""A release of one domain serves another, which shares no ids with it: what it ranks before it has learned.

    python -m tests.benchmarks.cross_domain FOLDER --source films --target artists --target news --adapt

A release is trained on the first events of the source. In the target it is asked once for each of so many
users at the split, when a worker has counted the last n events before it (co-visits, popularity and its
decay): zero-shot, and the same without what its networks say. Beside it stand popularity and co-visits of
these n events, the text nearest to what a user liked, and, with `--adapt`, a release that goes on from the
source's (`slatestream train --from`) and one that begins from nothing, both trained on the n events. Quality
is the share of users with a hit among ten of all items, those met left out; ratios to popularity are with the
middle 95 % of a bootstrap over users.
"""

import platform
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model_core.data.datasets import Dataset
from model_core.data.vocabulary import Vocabulary
from model_core.evaluation.evaluate import Truth, future, rank, start_replay
from model_core.evaluation.topn import ranking_metrics, top_items
from model_core.inputs.corpus import Corpus, as_known, make_corpus, rating_actions
from model_core.release.scorer import Scorer
from model_core.training.recipe import Recipe
from model_core.training.train import train_release
from model_core.training.warm_start import Start, read_start
from streams.items.text_encoder import named_encoder
from streams.settings import Settings
from streams.trainer.training_run import NoTexts
from tests.benchmarks.domains import DOMAINS
from tests.benchmarks.inputs import DataFolder, faults_told

TOP, DRAWS = 10, 2000
Hits = dict[str, NDArray[np.float64]]


def main(
    folder: Annotated[Path, typer.Argument(help="Holds lastfm-kg-mm, s3rec and idea-news.")],
    source: Annotated[str, typer.Option(help=f"Of {', '.join(DOMAINS)}.")] = "films",
    target: Annotated[list[str] | None, typer.Option(help="Repeatable; all others by default.")] = None,
    events: Annotated[
        int, typer.Option(min=100, help="Of the source, that its release learns from.")
    ] = 20_000,
    budget: Annotated[
        list[int] | None, typer.Option(help="Events of the target; 0 = all. Repeatable.")
    ] = None,
    users: Annotated[int, typer.Option(min=30, help="Asked at most.")] = 1_000,
    adapt: Annotated[bool, typer.Option("--adapt", help="Train on the target's events, too.")] = False,
    epochs: Annotated[int, typer.Option(min=1)] = 6,
    films: DataFolder = None,
    out: Annotated[Path | None, typer.Option(help="Folder in which the source's release stays.")] = None,
) -> None:
    """Train the source, ask the targets, and print."""
    console, settings = Console(width=140), Settings()
    recipe = Recipe().changed(train={"epochs": epochs})
    weights = dict(settings.actions)

    def read(name: str) -> tuple[Dataset, Corpus, int]:
        dataset, split = DOMAINS[name](films if name == "films" else folder.expanduser())
        actions = rating_actions(dataset.interactions)
        told = any(item.title != item.item_id for item in dataset.items)
        encoder = named_encoder(settings.text_encoder) if told else NoTexts(Recipe().model.text_dim)
        return dataset, make_corpus(dataset, actions, weights, encoder, recipe.model.n_neighbours), split

    release = (out or Path(tempfile.mkdtemp())) / f"{source}-{events}"
    if not release.exists():
        log = (corpus := read(source)[1]).log
        train_release(corpus, weights, release, until=min(1.0, events / len(log)), train=recipe.train)
    start = read_start(release)
    assert start is not None
    console.print(
        f"{platform.machine()}; {source}, {events:,} events; {epochs} epochs; {users:,} users at most"
    )
    for name in target or [one for one in DOMAINS if one != source]:
        dataset, corpus, split = read(name)
        truth = _asked(corpus, split, users)
        rows = []
        for n in budget or (100, 1_000, split // 10, 0):
            n = min(split, n or split)
            some = replace(corpus, log=corpus.log.part(np.arange(len(corpus.log)) >= split - n))
            begun = time.process_time()
            hits = _zero_shot(release, dataset, some, n, truth)
            if adapt:
                for kind, given in (("adapted", start), ("from nothing", None)):
                    hits[kind] = _trained(some, n, truth, weights, recipe, given)
            rows.append((n, hits))
            console.print(f"{name}, {n:,} events: {time.process_time() - begun:.0f} s of processor time")
        _show(console, f"{source} to {name}", rows, len(truth.users))


def _asked(corpus: Corpus, split: int, most: int) -> Truth:
    """Users who like something later, those without any event among them."""
    truth = future(corpus.log, split, newcomers=True)
    at = np.unique(np.linspace(0, len(truth.users) - 1, min(most, len(truth.users))).astype(np.int64))
    return Truth(truth.users[at], truth.relevant[at])


def _zero_shot(release: Path, dataset: Dataset, corpus: Corpus, n: int, truth: Truth) -> Hits:
    """Hits of the source's release and of what needs no training, after n events."""
    scorer = Scorer(release)
    of = scorer.release
    if shared := of.item_rows.keys() & corpus.vocabulary.item_rows.keys():
        raise ValueError(f"domains must share no items, got {len(shared)} of one id, such as {min(shared)!r}")
    known = as_known(
        corpus, dataset, Vocabulary(of.item_rows, of.entity_rows, of.relation_rows), of.n_neighbours
    )
    replay, vectors = start_replay(scorer, known)
    replay.advance(n)
    tops = rank(scorer, replay, vectors, truth, k=TOP).tops
    hits = {"zero-shot": tops["slatestream"]}
    ask, graphs = scorer._graphs._ask, scorer._graphs
    # Gains of the match and of the head.
    graphs._ask = lambda *asked: (user := ask(*asked)) | {"gains": 0.0 * user["gains"]}
    hits["without networks"] = rank(scorer, replay, vectors, truth, k=TOP, baselines=False).tops[
        "slatestream"
    ]
    hits |= {name: tops[name] for name in ("popularity", "recent popularity", "item-kNN", "co-visits")}
    if corpus.text.any():
        hits["nearest text"] = _nearest(corpus, n, truth, replay.met(truth.users), tops["popularity"])
    return {name: _hit(top, truth) for name, top in hits.items()}


def _nearest(
    corpus: Corpus, n: int, truth: Truth, met: NDArray[np.bool_], popular: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Items whose texts are nearest to the mean of those that a user liked, else popular ones."""
    log, text = corpus.log.first(n), corpus.text - corpus.text.mean(0)
    text = text / np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-9)
    liked = np.zeros((log.n_users, log.n_items), np.float32)
    liked[log.users[log.positive], log.items[log.positive]] = 1.0
    mine = liked[truth.users]
    top = top_items(mine @ text @ text.T, met, TOP)
    return np.where(mine.any(1, keepdims=True), top, popular)


def _trained(
    corpus: Corpus, n: int, truth: Truth, weights: Mapping[str, float], recipe: Recipe, start: Start | None
) -> NDArray[np.float64]:
    """Hits of a release that is trained on the n events."""
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "release"
        train_release(
            corpus, weights, made, until=(n + 0.5) / len(corpus.log), train=recipe.train, start=start
        )
        scorer = Scorer(made)
    replay, vectors = start_replay(scorer, corpus)
    replay.advance(n)
    return _hit(rank(scorer, replay, vectors, truth, k=TOP, baselines=False).tops["slatestream"], truth)


def _hit(top: NDArray[np.int64], truth: Truth) -> NDArray[np.float64]:
    hit: NDArray[np.float64] = ranking_metrics(top, truth.relevant)["hit"]
    return hit


def _show(console: Console, title: str, rows: list[tuple[int, Hits]], users: int) -> None:
    """Print hit@10 by events of the target, and each model's as a multiple of popularity's."""
    table = Table(title=f"{title}: hit@{TOP} of {users:,} users")
    names = list(rows[-1][1])
    for column in (
        "events",
        *names,
        "zero-shot / popularity",
        *(["adapted / popularity"] * ("adapted" in names)),
    ):
        table.add_column(column, justify="right")
    for n, hits in rows:
        ratios = [_ratio(hits[name], hits["popularity"]) for name in ("zero-shot", "adapted") if name in hits]
        table.add_row(f"{n:,}", *(f"{hits[name].mean():.4f}" for name in names), *ratios)
    console.print(table)


def _ratio(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> str:
    draws = np.random.default_rng(0).integers(0, len(ours), (DRAWS, len(ours)))
    with np.errstate(divide="ignore"):
        low, high = np.percentile(ours[draws].mean(1) / theirs[draws].mean(1), (2.5, 97.5))
        return f"{ours.mean() / theirs.mean():.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
